//! What is counted, and where a count ends.

use std::hint::black_box;

/// Counts works one after the other.
///
/// `bench/instructions` tells callgrind to collect while `counted_work` runs, and to write down what it has collected when
/// `count_is_over` returns; so the two must stay functions of these names. What is prepared between two works is not counted.
#[derive(Debug, Default)]
pub struct Meter {
    done: Vec<Count>,
    operations: u32,
}

/// One count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// What was counted.
    pub name: &'static str,
    /// How often it was done.
    pub operations: u32,
}

impl Meter {
    /// Does one operation that counts for the next [`Self::finish`].
    pub fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.operations += 1;
        let (mut work, mut result) = (Some(work), None);
        counted_work(&mut || result = work.take().map(|work| work()));
        result.expect("the work was done")
    }

    /// Ends a count and names it.
    pub fn finish(&mut self, name: &'static str) {
        self.done.push(Count { name, operations: std::mem::take(&mut self.operations) });
        count_is_over();
    }

    /// A count of `operations` times the same work. What it makes is dropped as part of it.
    pub fn repeat<T>(&mut self, name: &'static str, operations: u32, mut work: impl FnMut() -> T) {
        // Once before: what is set up at the first use is no part of any later one.
        black_box(work());
        for _ in 0..operations {
            self.count(|| drop(black_box(work())));
        }
        self.finish(name);
    }

    /// What was counted, in order.
    #[must_use]
    pub fn counts(&self) -> &[Count] {
        &self.done
    }
}

#[inline(never)]
fn counted_work(work: &mut dyn FnMut()) {
    work();
    // Else the call above would be a jump, and this function over before it.
    black_box(());
}

#[inline(never)]
fn count_is_over() {
    black_box(());
}
