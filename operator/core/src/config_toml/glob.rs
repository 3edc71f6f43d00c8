//! The patterns of Go's `path/filepath.Match`, with which containerd resolves `imports`.

/// Whether `path` matches `pattern` as Go's `filepath.Match` has it on Linux: `*` and `?` never match `/`, `[a-z]` and
/// `[^a-z]` are classes, `\` quotes the next character. A malformed pattern matches nothing.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let path: Vec<char> = path.chars().collect();
    // where to take up again when the text after the last `*` does not fit: (pattern after the star, path position)
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut s) = (0, 0);
    loop {
        if p == pattern.len() && s == path.len() {
            return true;
        }
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, s));
            p += 1;
            continue;
        }
        if let Some(&c) = path.get(s)
            && let Some(next) = one(&pattern, p, c)
        {
            p = next;
            s += 1;
            continue;
        }
        match retry {
            Some((after_star, from)) if path.get(from).is_some_and(|&c| c != '/') => {
                retry = Some((after_star, from + 1));
                (p, s) = (after_star, from + 1);
            }
            _ => return false,
        }
    }
}

/// Whether Go accepts the pattern; a malformed one is a start-up error of containerd (`syntax error in pattern`).
#[must_use]
pub fn is_well_formed(pattern: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut p = 0;
    while let Some(&c) = pattern.get(p) {
        p = match c {
            '\\' if p + 1 == pattern.len() => return false,
            '\\' => p + 2,
            '[' => match class(&pattern, p + 1, None) {
                Some((next, _)) => next,
                None => return false,
            },
            _ => p + 1,
        };
    }
    true
}

/// The position behind the pattern element at `p` where it matches the one character `c`.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern.get(p)? {
        '?' => (c != '/').then_some(p + 1),
        '[' => class(pattern, p + 1, Some(c)).and_then(|(next, inside)| (inside && c != '/').then_some(next)),
        '\\' => (*pattern.get(p + 1)? == c).then_some(p + 2),
        literal => (*literal == c).then_some(p + 1),
    }
}

/// Reads a character class from behind its `[`: the position behind its `]` and whether it holds `c`.
fn class(pattern: &[char], mut p: usize, c: Option<char>) -> Option<(usize, bool)> {
    let negated = pattern.get(p) == Some(&'^');
    if negated {
        p += 1;
    }
    let mut inside = false;
    let mut ranges = 0;
    loop {
        if pattern.get(p) == Some(&']') && ranges > 0 {
            return Some((p + 1, inside != negated));
        }
        let low = class_char(pattern, &mut p)?;
        let high = if pattern.get(p) == Some(&'-') {
            p += 1;
            class_char(pattern, &mut p)?
        } else {
            low
        };
        inside |= c.is_some_and(|c| low <= c && c <= high);
        ranges += 1;
    }
}

fn class_char(pattern: &[char], p: &mut usize) -> Option<char> {
    let c = match pattern.get(*p)? {
        '-' | ']' => return None,
        '\\' => {
            *p += 1;
            *pattern.get(*p)?
        }
        other => *other,
    };
    *p += 1;
    Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_go() {
        // the table of Go's own documentation and tests of path/filepath.Match
        for (pattern, path, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[a-ζ]*", "α", true),
            ("/etc/containerd/conf.d/*.toml", "/etc/containerd/conf.d/10-a.toml", true),
            ("/etc/containerd/conf.d/*.toml", "/etc/containerd/conf.d/.toml", true),
            ("/etc/containerd/conf.d/*.toml", "/etc/containerd/conf.d/10-a.toml.bak", false),
            ("/etc/containerd/*/*.toml", "/etc/containerd/a/b.toml", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn knows_malformed_patterns() {
        for pattern in ["[", "[]a]", "[^]", "a[", "[-x]", "[x-]", "a\\", "[a-b-c]"] {
            assert!(!is_well_formed(pattern), "{pattern}");
        }
        for pattern in ["*", "[a-z]*", "a\\[", "a]"] {
            assert!(is_well_formed(pattern), "{pattern}");
        }
    }
}
