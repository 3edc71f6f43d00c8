//! Whether containerd reads a directory, as far as it is known: a pull is asked for only where that is open.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use registry_mirror_core::{
    observed::Proof,
    plan::proofs::{Holds, holds},
};
use registry_mirror_host::{cri::Cri, files::HostWriter, proof::prove, systemd::InvocationId};
use tokio::time::Instant;

/// What proofs have found of the daemon's present start.
#[derive(Debug, Default)]
pub struct Proofs {
    /// The start; `None` where no unit tells.
    start: Option<InvocationId>,
    answers: BTreeMap<PathBuf, Answer>,
}

#[derive(Debug)]
struct Answer {
    proof: Proof,
    given_at: Instant,
    /// How many in a row have told nothing.
    failures: u32,
}

impl Proofs {
    /// Nothing is known any more.
    pub fn forget(&mut self) {
        self.answers.clear();
    }

    /// The daemon's start that is meant from now on. Of another one nothing is known.
    pub fn of_start(&mut self, start: Option<InvocationId>) {
        if self.start != start {
            self.start = start;
            self.forget();
        }
    }

    /// Whether the daemon reads a directory: what is known, or what a pull tells.
    pub async fn ask(&mut self, writer: &HostWriter, directory: &Path, cri: &Cri) -> Proof {
        if let Some(known) = self.known(directory, Instant::now()) {
            return known.clone();
        }
        let proof: Proof = prove(writer, directory, cri).await.into();
        self.note(directory, proof.clone(), Instant::now());
        proof
    }

    /// When a pull that told nothing is to be tried again; nothing that is due and was not asked for since.
    pub fn try_again_at(&self, now: Instant) -> Option<Instant> {
        let failed = self.answers.values().filter(|answer| matches!(answer.proof, Proof::Failed(_)));
        failed.filter_map(|answer| self.holds_until(answer)).filter(|at| *at > now).min()
    }

    fn known(&self, directory: &Path, now: Instant) -> Option<&Proof> {
        let answer = self.answers.get(directory)?;
        self.holds_until(answer).is_none_or(|end| now < end).then_some(&answer.proof)
    }

    fn note(&mut self, directory: &Path, proof: Proof, now: Instant) {
        let before = self.answers.get(directory).map_or(0, |answer| answer.failures);
        let failures = if matches!(proof, Proof::Failed(_)) { before.saturating_add(1) } else { 0 };
        self.answers.insert(directory.to_owned(), Answer { proof, given_at: now, failures });
    }

    /// `None`: as long as the daemon runs.
    fn holds_until(&self, answer: &Answer) -> Option<Instant> {
        match holds(&answer.proof, self.start.is_some(), answer.failures) {
            Holds::WhileItRuns => None,
            Holds::For(duration) => Some(answer.given_at + duration),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DIRECTORY: &str = "/etc/containerd/certs.d";

    fn proofs(start: Option<&str>) -> Proofs {
        let mut proofs = Proofs::default();
        proofs.of_start(start.map(|start| InvocationId::from(start.to_owned())));
        proofs
    }

    fn is_known(proofs: &Proofs, now: Instant) -> bool {
        proofs.known(Path::new(DIRECTORY), now).is_some()
    }

    #[test]
    fn an_answer_is_of_one_directory_and_one_start() {
        let (mut proofs, now) = (proofs(Some("a")), Instant::now());
        proofs.note(Path::new(DIRECTORY), Proof::Effective, now);
        proofs.note(Path::new("/srv/certs.d"), Proof::NotEffective("refused".to_owned()), now);
        let later = now + Duration::from_secs(3600);
        assert_eq!(proofs.known(Path::new(DIRECTORY), later), Some(&Proof::Effective));
        assert!(proofs.known(Path::new("/srv/certs.d"), now + Duration::from_secs(29)).is_some());
        assert_eq!(proofs.known(Path::new("/srv/certs.d"), now + Duration::from_secs(30)), None);
        proofs.of_start(Some(InvocationId::from("a".to_owned())));
        assert!(is_known(&proofs, later));
        proofs.of_start(Some(InvocationId::from("b".to_owned())));
        assert!(!is_known(&proofs, now));
    }

    #[test]
    fn a_failure_is_tried_again_soon_and_an_answer_ends_the_row() {
        let (mut proofs, now) = (proofs(Some("a")), Instant::now());
        let after = |proofs: &Proofs| proofs.try_again_at(now).map(|at| (at - now).as_secs());
        for expected in [1, 2, 4] {
            proofs.note(Path::new(DIRECTORY), Proof::Failed("no answer".to_owned()), now);
            assert_eq!(after(&proofs), Some(expected));
        }
        proofs.note(Path::new(DIRECTORY), Proof::NotEffective("refused".to_owned()), now);
        assert_eq!(after(&proofs), None);
        proofs.note(Path::new(DIRECTORY), Proof::Failed("no answer".to_owned()), now);
        assert_eq!(after(&proofs), Some(1));
        // A directory that no plan asks for any more wakes nobody.
        assert_eq!(proofs.try_again_at(now + Duration::from_secs(1)), None);
    }
}
