//! Mutations of whole lines. Of the inputs that bytes are changed in, one in twenty is a file that a daemon would start
//! with; the others say much about the parser and nothing about what comes behind it.

use std::collections::BTreeSet;

use crate::{
    config::NEXT_FILE,
    daemon::VERSIONS,
    fragments::{KEYS, PLUGINS, ROOT, TABLES},
};

/// What lines are put in.
#[derive(Debug, Clone, Copy)]
pub enum Pool {
    /// Of config.toml.
    Config,
    /// Of hosts.toml.
    Hosts,
}

const HOSTS: [&str; 24] = [
    "[host]",
    "[host.\"https://m.example\"]",
    "[host.'https://m.example'.header]",
    "[host.'http://[fd00::1]:5000/v2']",
    "[host.\"b:5000\"]",
    "[header]",
    "server = 'https://s.example'",
    "'https://i.example' = { capabilities = ['pull'] }",
    "host.\"https://d.example\".capabilities = ['resolve']",
    "host.'https://[::1]'.skip_verify = true",
    "capabilities = ['pull', \"resolve\"]",
    "capabilities = ['push', 'referrers']",
    "capabilities = []",
    "ca = '/ca.pem'",
    "ca = ['/a', \"/b\\\\\"]",
    "client = '/both.pem'",
    "client = [['/c', '/k'], ['/d', '/d']]",
    "client = [\n  '/c', # first\n]",
    "skip_verify = false",
    "override_path = true",
    "dial_timeout = '1h2m0.5s'",
    "header = { X = ['1', \"\\u00e4\"] }",
    "Authorization = 'Basic S3CR3T'",
    "\"X \\\"\" = ''",
];

/// Changes one to three lines of an input, or leaves the change to `other` (libFuzzer's own). Gives the new length.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    pool: Pool,
    other: impl FnOnce(&mut [u8], usize, usize) -> usize,
) -> usize {
    let mut dice = Dice(seed | 1);
    if dice.roll(4) == 0 || size < 2 {
        return other(data, size, max_size);
    }
    let daemon = data[0];
    let mut lines: Vec<Vec<u8>> = data[1..size].split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    let daemon = if dice.roll(8) == 0 { b'0' + dice.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) } else { daemon };
    debug_assert_eq!(VERSIONS.len(), 10);
    for _ in 0..=dice.roll(3) {
        change(&mut lines, &mut dice, pool);
    }
    if dice.roll(4) > 0 {
        drop_doubles(&mut lines);
    }
    let bytes = lines.concat();
    let length = bytes.len().min(max_size.saturating_sub(1)).min(data.len() - 1);
    data[0] = daemon;
    data[1..=length].copy_from_slice(&bytes[..length]);
    length + 1
}

/// A header or a key that stands there twice is what most mutated files are refused for.
fn drop_doubles(lines: &mut Vec<Vec<u8>>) {
    let (mut seen, mut section) = (BTreeSet::new(), Vec::new());
    lines.retain(|line| {
        let text: Vec<u8> = line.iter().copied().filter(|byte| !b" \t'\"\r\n".contains(byte)).collect();
        let is_header = text.starts_with(b"[") && !text.starts_with(b"[[");
        if text.contains(&NEXT_FILE) {
            seen.clear();
            section.clear();
        } else if is_header {
            section = text.split(|&byte| byte == b'#').next().unwrap_or_default().to_vec();
            return seen.insert(section.clone());
        } else if let Some(equals) = text.iter().position(|&byte| byte == b'=').filter(|_| !text.starts_with(b"#")) {
            return seen.insert([&section[..], b"\0", &text[..equals]].concat());
        }
        true
    });
}

fn change(lines: &mut Vec<Vec<u8>>, dice: &mut Dice, pool: Pool) {
    let (from, to) = (dice.roll(lines.len().max(1)), dice.roll(lines.len() + 1));
    match dice.roll(16) {
        0..=4 => lines.insert(to, fresh(dice, pool)),
        _ if lines.is_empty() => {}
        5 | 6 => {
            lines.remove(from);
        }
        7 => lines.insert(to, lines[from].clone()),
        8 | 9 => {
            let line = lines.remove(from);
            lines.insert(to.min(lines.len()), line);
        }
        10 => lines[from] = fresh(dice, pool),
        11 => {
            lines[from].splice(0..0, dice.pick(&[b"  ".as_slice(), b"\t", b"# ", b" "]).iter().copied()).for_each(drop)
        }
        12 => {
            let line = &mut lines[from];
            let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(line.len());
            line.splice(end..end, dice.pick(&[b" # why".as_slice(), b"\t#", b" ", b"\r"]).iter().copied())
                .for_each(drop);
        }
        13 => {
            lines[from].pop();
        }
        14 => {
            let text = String::from_utf8_lossy(&lines[from]).into_owned();
            if let Some(old) = PLUGINS.iter().find(|plugin| text.contains(**plugin)) {
                lines[from] = text.replacen(*old, dice.pick::<&str>(&PLUGINS), 1).into_bytes();
            }
        }
        _ => match (pool, dice.roll(2)) {
            (Pool::Config, 0) => lines.insert(to, vec![NEXT_FILE]),
            _ if dice.roll(4) == 0 => lines[0].splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
            _ => {
                let line = &mut lines[from];
                let by = line.len().min(dice.roll(3));
                line.rotate_left(by);
            }
        },
    }
}

fn fresh(dice: &mut Dice, pool: Pool) -> Vec<u8> {
    let line = match (pool, dice.roll(4)) {
        (Pool::Hosts, _) => (*dice.pick(&HOSTS)).to_owned(),
        (Pool::Config, 0 | 1) => format!("[plugins.{}{}]", dice.pick(&PLUGINS), dice.pick(&TABLES)),
        (Pool::Config, 2) => (*dice.pick(&KEYS)).to_owned(),
        (Pool::Config, _) => (*dice.pick(&ROOT)).to_owned(),
    };
    let newline = if dice.roll(8) == 0 { "\r\n" } else { "\n" };
    format!("{line}{newline}").into_bytes()
}

/// xorshift: the same seed gives the same change, as libFuzzer expects.
struct Dice(u32);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 >> 3) as usize % sides
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}
