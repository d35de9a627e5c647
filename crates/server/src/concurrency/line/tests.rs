use proptest::prelude::*;

use super::*;

fn place(id: i64, state: ClaimState) -> Place {
    Place { id, state, cancel_in_progress: false, queue_max: false }
}

/// Carries verdicts out.
fn apply(line: &mut [Place], verdicts: &[Verdict]) {
    for verdict in verdicts {
        let (id, state) = match *verdict {
            Verdict::Grant(id) => (id, ClaimState::Granted),
            Verdict::Wait { claim, .. } => (claim, ClaimState::Waiting),
            Verdict::Displace { claim, .. } | Verdict::TurnAway(claim) => (claim, ClaimState::Displaced),
            Verdict::Overtake { claim, .. } => (claim, ClaimState::Overtaken),
        };
        line.iter_mut().find(|place| place.id == id).expect("a verdict is about somebody in the line").state = state;
    }
}

#[test]
fn the_first_gets_it_and_the_last_waits() {
    let line = [place(1, ClaimState::Waiting), place(2, ClaimState::Waiting), place(3, ClaimState::Waiting)];
    let verdicts = judge(&line);
    let wait = Verdict::Wait { claim: 3, holder: 1 };
    assert_eq!(verdicts, [Verdict::Grant(1), Verdict::Displace { claim: 2, by: 3 }, wait]);
}

#[test]
fn who_cancels_what_is_in_progress_waits_for_its_end() {
    let newer = Place { cancel_in_progress: true, ..place(2, ClaimState::Waiting) };
    let mut line = vec![place(1, ClaimState::Granted), newer];
    let verdicts = judge(&line);
    let wait = Verdict::Wait { claim: 2, holder: 1 };
    assert_eq!(verdicts, [Verdict::Overtake { claim: 1, by: 2 }, wait]);
    apply(&mut line, &verdicts);
    assert_eq!(judge(&line), [wait], "it is told once");
    assert_eq!(judge(&line[1..]), [Verdict::Grant(2)]);
}

#[test]
fn nobody_begins_only_to_be_cancelled() {
    let newer = Place { cancel_in_progress: true, ..place(2, ClaimState::Waiting) };
    let verdicts = judge(&[place(1, ClaimState::Waiting), newer]);
    assert_eq!(verdicts, [Verdict::Displace { claim: 1, by: 2 }, Verdict::Grant(2)]);
}

#[test]
fn a_long_line_has_an_end() {
    let long = |id, state| Place { queue_max: true, ..place(id, state) };
    let mut line = vec![long(0, ClaimState::Granted)];
    line.extend((1..=102).map(|id| long(id, ClaimState::Waiting)));
    let verdicts = judge(&line);
    let away: Vec<&Verdict> = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::TurnAway(_))).collect();
    assert_eq!(away, [&Verdict::TurnAway(101), &Verdict::TurnAway(102)]);
    assert_eq!(verdicts.len(), 102);
    line.push(place(103, ClaimState::Waiting));
    let displaced = judge(&line).iter().filter(|v| matches!(v, Verdict::Displace { by: 103, .. })).count();
    assert_eq!(displaced, 100, "one that wants to wait alone takes the place of all");
}

/// The rules as they are told to people: one event after the other.
#[derive(Default)]
struct Naive {
    holder: Option<(i64, bool)>,
    waiting: Vec<Place>,
    cancelled: Vec<i64>,
}

impl Naive {
    fn arrive(&mut self, new: Place) {
        let Some((_, overtaken)) = &mut self.holder else {
            self.holder = Some((new.id, false));
            return;
        };
        *overtaken |= new.cancel_in_progress;
        if new.queue_max && self.waiting.len() >= LONGEST {
            self.cancelled.push(new.id);
            return;
        }
        if !new.queue_max {
            self.cancelled.extend(self.waiting.drain(..).map(|place| place.id));
        }
        self.waiting.push(new);
    }

    fn leave(&mut self, id: i64) {
        self.waiting.retain(|place| place.id != id);
        self.cancelled.retain(|cancelled| *cancelled != id);
        if self.holder.is_some_and(|(holder, _)| holder == id) {
            let next = (!self.waiting.is_empty()).then(|| self.waiting.remove(0));
            self.holder = next.map(|place| (place.id, false));
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Arrive { cancel: bool, max: bool },
    Leave(prop::sample::Index),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (any::<bool>(), any::<bool>()).prop_map(|(cancel, max)| Event::Arrive { cancel: cancel && !max, max }),
        2 => any::<prop::sample::Index>().prop_map(Event::Leave),
    ]
}

proptest! {
    /// Judged after each event, the line is the naive one's.
    #[test]
    fn every_history_is_that_of_the_naive_line(events in prop::collection::vec(event(), 0..60)) {
        let (mut line, mut naive, mut next) = (Vec::<Place>::new(), Naive::default(), 1);
        for event in events {
            match event {
                Event::Arrive { cancel, max } => {
                    let new = Place { cancel_in_progress: cancel, queue_max: max, ..place(next, ClaimState::Waiting) };
                    next += 1;
                    line.push(new);
                    naive.arrive(new);
                }
                Event::Leave(which) if !line.is_empty() => {
                    let id = line.remove(which.index(line.len())).id;
                    naive.leave(id);
                }
                Event::Leave(_) => {}
            }
            let verdicts = judge(&line);
            apply(&mut line, &verdicts);
            let expected = |id: i64| match naive.holder {
                Some((holder, overtaken)) if holder == id => {
                    if overtaken { ClaimState::Overtaken } else { ClaimState::Granted }
                }
                _ if naive.cancelled.contains(&id) => ClaimState::Displaced,
                _ => ClaimState::Waiting,
            };
            for place in &line {
                prop_assert_eq!(place.state, expected(place.id), "claim {}", place.id);
            }
        }
    }

    /// Judged whenever, also after many events at once: at most one has the group, one has it unless all are on their way
    /// out, nobody loses it before its end, and a second look changes nothing.
    #[test]
    fn a_line_is_in_order_whenever_it_is_looked_at(
        events in prop::collection::vec((event(), prop::bool::weighted(0.3)), 0..60)
    ) {
        let (mut line, mut next) = (Vec::<Place>::new(), 1);
        for (event, look) in events {
            match event {
                Event::Arrive { cancel, max } => {
                    line.push(Place { cancel_in_progress: cancel, queue_max: max, ..place(next, ClaimState::Waiting) });
                    next += 1;
                }
                Event::Leave(which) if !line.is_empty() => drop(line.remove(which.index(line.len()))),
                Event::Leave(_) => {}
            }
            if !look {
                continue;
            }
            let has = |place: &&Place| matches!(place.state, ClaimState::Granted | ClaimState::Overtaken);
            let before = line.iter().find(has).map(|place| place.id);
            let verdicts = judge(&line);
            apply(&mut line, &verdicts);
            let holders: Vec<i64> = line.iter().filter(has).map(|place| place.id).collect();
            prop_assert!(holders.len() <= 1);
            prop_assert!(before.is_none() || holders.first().copied() == before);
            let present = line.iter().any(|place| place.state != ClaimState::Displaced);
            prop_assert_eq!(!holders.is_empty(), present);
            let again = judge(&line);
            prop_assert!(again.iter().all(|verdict| matches!(verdict, Verdict::Wait { .. })), "{:?}", again);
        }
    }
}
