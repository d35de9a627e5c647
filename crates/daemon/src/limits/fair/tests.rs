use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;

type Acquire<'a> = Pin<Box<dyn Future<Output = Result<Permit, Overloaded>> + 'a>>;

fn poll(acquire: &mut Acquire<'_>) -> Poll<Result<Permit, Overloaded>> {
    acquire.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Those who stand at a gate; time passes by hand.
struct Crowd<'a> {
    gate: &'a FairGate<u8>,
    waiting: Vec<(usize, u8, Acquire<'a>)>,
    inside: VecDeque<(usize, u8, Permit)>,
    come: usize,
}

impl<'a> Crowd<'a> {
    fn at(gate: &'a FairGate<u8>) -> Self {
        Self { gate, waiting: Vec::new(), inside: VecDeque::new(), come: 0 }
    }

    /// One of `key` comes; its number, if it was not turned away.
    fn comes(&mut self, key: u8) -> Result<usize, Overloaded> {
        let number = self.come;
        let mut acquire: Acquire<'a> = Box::pin(self.gate.acquire(key));
        match poll(&mut acquire) {
            Poll::Ready(Ok(permit)) => self.inside.push_back((number, key, permit)),
            Poll::Ready(Err(overloaded)) => return Err(overloaded),
            Poll::Pending => self.waiting.push((number, key, acquire)),
        }
        self.come += 1;
        Ok(number)
    }

    /// Whoever has been inside longest goes; who comes in for it.
    fn goes(&mut self) -> Option<(usize, u8)> {
        drop(self.inside.pop_front()?);
        let mut entered = None;
        let mut index = 0;
        while index < self.waiting.len() {
            let (number, key, acquire) = &mut self.waiting[index];
            if let Poll::Ready(result) = poll(acquire) {
                assert_eq!(entered.replace((*number, *key)), None, "two came in for one");
                self.inside.push_back((*number, *key, result.expect("it waits already")));
                drop(self.waiting.remove(index));
            } else {
                index += 1;
            }
        }
        entered
    }

    fn keys_waiting(&self) -> usize {
        let mut keys: Vec<_> = self.waiting.iter().map(|(_, key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }
}

#[test]
fn turns_go_round_and_within_a_key_by_age() {
    let gate = FairGate::new(1, 100);
    let mut crowd = Crowd::at(&gate);
    for key in [0, 0, 0, 0, 1, 2, 1] {
        crowd.comes(key).unwrap();
    }
    let entered: Vec<_> = std::iter::from_fn(|| crowd.goes()).collect();
    assert_eq!(entered, [(1, 0), (4, 1), (5, 2), (2, 0), (6, 1), (3, 0)]);
    assert_eq!((gate.free(), gate.waiting()), (1, 0));
}

#[test]
fn a_full_queue_turns_its_own_key_away_and_no_other() {
    let gate = FairGate::new(1, 2);
    let mut crowd = Crowd::at(&gate);
    for _ in 0..3 {
        crowd.comes(0).unwrap();
    }
    assert_eq!(crowd.comes(0), Err(Overloaded { waiting: 2 }));
    assert_eq!(crowd.comes(1), Ok(3));
    crowd.goes();
    assert_eq!(crowd.comes(0), Ok(4));
}

#[test]
fn who_gives_up_after_its_turn_came_leaves_it_to_the_next() {
    let gate = FairGate::new(1, 100);
    let first = poll(&mut (Box::pin(gate.acquire(0)) as Acquire<'_>));
    let mut second: Acquire<'_> = Box::pin(gate.acquire(0));
    let mut third: Acquire<'_> = Box::pin(gate.acquire(1));
    assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
    drop(first);
    // The permit is on its way to the second.
    assert!(poll(&mut third).is_pending());
    drop(second);
    assert!(poll(&mut third).is_ready());
}

#[tokio::test]
async fn many_tasks_share_the_places() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let gate = FairGate::new(3, 1000);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks = tokio_util::task::TaskTracker::new();
    for number in 0..500_usize {
        let (gate, inside, most) = (gate.clone(), Arc::clone(&inside), Arc::clone(&most));
        tasks.spawn(async move {
            let acquire = gate.acquire(number % 7);
            // Some give up, at whatever point they are.
            let patience = std::time::Duration::from_micros(if number % 3 == 0 { 200 } else { 60_000_000 });
            let Ok(permit) = tokio::time::timeout(patience, acquire).await else { return };
            most.fetch_max(1 + inside.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(permit.unwrap());
        });
    }
    tasks.close();
    tasks.wait().await;
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert_eq!((gate.free(), gate.waiting()), (3, 0));
}

#[derive(Clone, Debug)]
enum Event {
    Comes(u8),
    /// The one at this index, as far as there are so many.
    GivesUp(usize),
    Goes,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u8..5).prop_map(Event::Comes),
        1 => (0_usize..20).prop_map(Event::GivesUp),
        3 => Just(Event::Goes),
    ]
}

proptest! {
    #[test]
    fn no_place_is_lost_and_none_is_idle(
        places in 1_usize..5,
        max_waiting in 0_usize..6,
        events in prop::collection::vec(event(), 0..300),
    ) {
        let gate = FairGate::new(places, max_waiting);
        let mut crowd = Crowd::at(&gate);
        for event in events {
            match event {
                Event::Comes(key) => {
                    let before = crowd.waiting.iter().filter(|(_, other, _)| *other == key).count();
                    let full = gate.free() == 0 && before >= max_waiting;
                    prop_assert_eq!(crowd.comes(key).is_err(), full);
                }
                Event::GivesUp(index) if index < crowd.waiting.len() => drop(crowd.waiting.remove(index)),
                Event::GivesUp(_) => {}
                Event::Goes => {
                    let someone = !crowd.inside.is_empty() && !crowd.waiting.is_empty();
                    prop_assert_eq!(crowd.goes().is_some(), someone);
                }
            }
            prop_assert_eq!(gate.free() + crowd.inside.len(), places);
            prop_assert_eq!(gate.waiting(), crowd.waiting.len());
            prop_assert!(gate.free() == 0 || gate.waiting() == 0, "a place is idle while somebody waits");
        }
        drop(crowd);
        prop_assert_eq!((gate.free(), gate.waiting()), (places, 0));
    }

    #[test]
    fn a_noisy_key_slows_only_itself(
        noise in 1_usize..200,
        others in 1_u8..10,
        order in any::<prop::sample::Index>(),
    ) {
        let gate = FairGate::new(1, 1000);
        let mut crowd = Crowd::at(&gate);
        let at = order.index(noise);
        let mut numbers = Vec::new();
        for index in 0..noise {
            crowd.comes(0).unwrap();
            if index == at {
                for key in 1..=others {
                    numbers.push(crowd.comes(key).unwrap());
                }
            }
        }
        // One service each time: whoever is alone of its key waits for one of each key at most, and itself.
        let bound = crowd.keys_waiting() + 1;
        let entered: Vec<_> = std::iter::from_fn(|| {
            // And the noise goes on.
            crowd.comes(0).unwrap();
            (!numbers.is_empty()).then(|| {
                let (number, _) = crowd.goes().unwrap();
                numbers.retain(|other| *other != number);
                number
            })
        })
        .collect();
        prop_assert!(entered.len() <= bound, "they waited for {} turns, {bound} are fair", entered.len());
    }

    #[test]
    fn nobody_starves(events in prop::collection::vec(event(), 0..300)) {
        let gate = FairGate::new(2, 8);
        let mut crowd = Crowd::at(&gate);
        // By number: the turns that may pass before its own, counted when it came.
        let mut due: HashMap<usize, usize> = HashMap::new();
        for event in events {
            match event {
                Event::Comes(key) => {
                    let ahead = crowd.waiting.iter().filter(|(_, other, _)| *other == key).count();
                    if let Ok(number) = crowd.comes(key) {
                        // Before each turn of its key, every one of five keys has one.
                        due.insert(number, (ahead + 1) * 5);
                    }
                }
                Event::GivesUp(index) if index < crowd.waiting.len() => drop(crowd.waiting.remove(index)),
                Event::GivesUp(_) => {}
                Event::Goes => {
                    crowd.goes();
                    for (number, _, _) in &crowd.waiting {
                        let left = due.get_mut(number).unwrap();
                        prop_assert!(*left > 0, "number {number} still waits");
                        *left -= 1;
                    }
                }
            }
        }
    }
}
