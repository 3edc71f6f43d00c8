//! `cargo test -p matrix -- [FILTER]`: a covering subset. `MATRIX=all` takes every cell, and `MATRIX_SHARD=2/4` the second
//! quarter of them. The hosts as people have them (`field`) come with it. A filter such as `2.4.2` or `legacy` takes those cells of all.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use matrix::{Cell, FIELD, MATRIX, Product, Start, covering, run, seed};
use testbed::{Bed, Node, NodeSpec};

/// The bed with the node of one containerd; the cells come ordered by containerd.
struct Stage {
    product: Option<Product>,
    lit: Option<(&'static str, Bed)>,
    /// Why a containerd's node did not come up, so that it is not tried for each cell.
    broken: BTreeMap<&'static str, String>,
}

impl Stage {
    fn bed(&mut self, containerd: &'static str) -> Result<&Bed> {
        if let Some(why) = self.broken.get(containerd) {
            anyhow::bail!("{why}");
        }
        if self.lit.as_ref().is_none_or(|(lit, _)| *lit != containerd) {
            if let Some((_, bed)) = self.lit.take() {
                bed.down()?;
            }
            match self.up(containerd) {
                Ok(bed) => self.lit = Some((containerd, bed)),
                Err(error) => {
                    let why = format!("the node with containerd {containerd} did not come up: {error:#}");
                    self.broken.insert(containerd, why.clone());
                    anyhow::bail!("{why}");
                }
            }
        }
        self.lit.as_ref().map(|(_, bed)| bed).context("the bed is not up")
    }

    fn up(&mut self, containerd: &str) -> Result<Bed> {
        let product = match &self.product {
            Some(product) => product.clone(),
            None => self.product.insert(Product::build()?).clone(),
        };
        let bed = Bed::builder(&bed_name()).kubernetes(false).node(NodeSpec::new("node", containerd)).up()?;
        seed(&bed)?;
        bed.node("node")?.install_program(&product.binary, "registry-mirror")?;
        Ok(bed)
    }
}

/// Shards of one machine must not share a bed; `MATRIX_BED` names another one.
fn bed_name() -> String {
    let name = std::env::var("MATRIX_BED").unwrap_or_else(|_| "matrix".to_owned());
    match shard() {
        Ok(Some((number, _))) => format!("{name}-{number}"),
        Ok(None) | Err(_) => name,
    }
}

/// `MATRIX_SHARD=2/4`.
fn shard() -> Result<Option<(usize, usize)>> {
    let Ok(text) = std::env::var("MATRIX_SHARD") else { return Ok(None) };
    let parsed = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    let (number, of) = parsed.with_context(|| format!("MATRIX_SHARD is `{text}`: write it as NUMBER/OF, like 2/4"))?;
    ensure!((1..=of).contains(&number), "MATRIX_SHARD is `{text}`: the number goes from 1 to {of}");
    Ok(Some((number, of)))
}

fn cells(filtered: bool) -> Result<Vec<Cell>> {
    let all = MATRIX.into_iter().flat_map(|containerd| Start::ALL.map(|start| Cell { containerd, start }));
    let everything = std::env::var("MATRIX").is_ok_and(|what| what == "all");
    let cells: Vec<Cell> = if everything || filtered { all.collect() } else { covering() };
    Ok(match shard()? {
        None => cells,
        // Neighbours stay together: they share a node.
        Some((number, of)) => {
            let bound = |number: usize| cells.len() * number / of;
            cells[bound(number - 1)..bound(number)].to_vec()
        }
    })
}

/// Something to go through on the node of one containerd.
struct Try {
    containerd: &'static str,
    name: String,
    run: Run,
}

type Run = Box<dyn Fn(&Bed, &Node) -> Result<()> + Send>;

/// The cells and, in the first shard, the hosts as people have them, ordered by containerd: they share its node.
fn tries(cells: Vec<Cell>) -> Vec<Try> {
    let cells = cells.into_iter().map(|cell| Try {
        containerd: cell.containerd,
        name: cell.name(),
        run: Box::new(move |bed, node| run(cell, bed, node)),
    });
    let field = FIELD.into_iter().map(|field| Try {
        containerd: field.containerd,
        name: format!("{}/field/{}", field.containerd, field.name),
        run: Box::new(move |bed, node| field.run(bed, node)),
    });
    let is_first = matches!(shard(), Ok(None | Some((1, _))));
    let mut tries: Vec<Try> = cells.chain(field.filter(|_| is_first)).collect();
    tries.sort_by_key(|attempt| MATRIX.iter().position(|containerd| *containerd == attempt.containerd));
    tries
}

/// What containerd complained about.
fn last_words(bed: &Bed) -> String {
    let script = "journalctl --quiet --unit=containerd.service --output=cat --lines=300 \
                  | grep -E 'level=(error|fatal)|failed to load' | tail -n 5";
    bed.node("node").and_then(|node| node.sh(script)).unwrap_or_default()
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let cells = match cells(args.filter.is_some()) {
        Ok(cells) => cells,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let stage = Arc::new(Mutex::new(Stage { product: None, lit: None, broken: BTreeMap::new() }));
    let trials = tries(cells).into_iter().map(|Try { containerd, name, run }| {
        let stage = Arc::clone(&stage);
        Trial::test(name.clone(), move || {
            let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
            let bed = stage.bed(containerd).map_err(|error| Failed::from(format!("{error:#}")))?;
            let started = Instant::now();
            let outcome = bed.node("node").and_then(|node| run(bed, node));
            eprintln!("{name}: {:.1} s", started.elapsed().as_secs_f64());
            outcome.map_err(|error| Failed::from(format!("{error:#}\n{}", last_words(bed))))
        })
    });
    let conclusion = libtest_mimic::run(&args, trials.collect());
    let lit = stage.lock().unwrap_or_else(PoisonError::into_inner).lit.take();
    if let Some((_, bed)) = lit
        && let Err(error) = bed.down()
    {
        eprintln!("the bed is not gone: {error:#}; run `testbed --name {} down`", bed_name());
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
