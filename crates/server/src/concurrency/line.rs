//! Who of a line gets its concurrency group, who waits, and who must go: a pure function of the line.

#[cfg(test)]
mod tests;

use startline_protocol::state::ClaimState;

/// Most that wait for a group whose line is long (GitHub's limit for `queue: max`).
pub(super) const LONGEST: usize = 100;

/// Somebody in a line; ids grow with the time of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub id: i64,
    pub state: ClaimState,
    pub cancel_in_progress: bool,
    pub queue_max: bool,
}

/// What is to become of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It gets the group.
    Grant(i64),
    /// It waits for the end of `holder`.
    Wait { claim: i64, holder: i64 },
    /// It is cancelled because `by` waits in its place, or has cancelled what was in progress before it began.
    Displace { claim: i64, by: i64 },
    /// It is cancelled because so many wait already.
    TurnAway(i64),
    /// It has the group and is cancelled because `by` cancels what is in progress.
    Overtake { claim: i64, by: i64 },
}

/// Looks at a line, first come first. Whoever has the group keeps it until its claim is taken out of the line. Once all
/// verdicts are carried out, another look yields only the waiting again.
pub(super) fn judge(line: &[Place]) -> Vec<Verdict> {
    // Those on their way out have nothing and wait for nothing.
    let mut line = line.iter().filter(|place| place.state != ClaimState::Displaced).peekable();
    let mut verdicts = Vec::new();
    let mut holder = None;
    while let Some(first) = line.next() {
        let newer: Vec<&Place> = line.clone().collect();
        let canceller = newer.iter().find(|place| place.cancel_in_progress);
        match (first.state, canceller) {
            // It would be granted only to be cancelled.
            (ClaimState::Waiting, Some(by)) => {
                verdicts.push(Verdict::Displace { claim: first.id, by: by.id });
                continue;
            }
            (ClaimState::Waiting, None) => verdicts.push(Verdict::Grant(first.id)),
            (ClaimState::Granted, Some(by)) => verdicts.push(Verdict::Overtake { claim: first.id, by: by.id }),
            _ => {}
        }
        holder = Some(first.id);
        break;
    }
    let Some(holder) = holder else { return verdicts };
    let mut waiting: Vec<i64> = Vec::new();
    for place in line {
        if place.queue_max {
            if waiting.len() < LONGEST {
                waiting.push(place.id);
            } else {
                verdicts.push(Verdict::TurnAway(place.id));
            }
        } else {
            verdicts.extend(waiting.drain(..).map(|claim| Verdict::Displace { claim, by: place.id }));
            waiting.push(place.id);
        }
    }
    verdicts.extend(waiting.into_iter().map(|claim| Verdict::Wait { claim, holder }));
    verdicts
}
