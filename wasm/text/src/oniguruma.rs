//! Regular expressions of tokenizers as fancy-regex reads them. They were written for Oniguruma, which Python's tokenizers
//! match with, and which reads some things otherwise:
//!
//! - `^` and `$` mean lines,
//! - `\w` has no joiners, and some more numbers, and the names of POSIX mean all of Unicode,
//! - `x{1,3}+` is a repetition of a repetition, and not a possessive one.

/// Word characters: letters and marks, decimal digits and Latin-1's other numbers, connecting punctuation.
const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}²³¹¼½¾";
/// Names of POSIX within a class.
const NAMED: [(&str, &str); 10] = [
    ("[:alpha:]", r"\p{Alphabetic}"),
    ("[:alnum:]", r"\p{Alphabetic}\p{Nd}"),
    ("[:digit:]", r"\p{Nd}"),
    ("[:lower:]", r"\p{Lowercase}"),
    ("[:upper:]", r"\p{Uppercase}"),
    ("[:space:]", r"\s"),
    ("[:blank:]", r"\p{Zs}\t"),
    ("[:cntrl:]", r"\p{Cc}"),
    ("[:punct:]", r"\p{P}$+<=>\^`|~"),
    ("[:word:]", WORD),
];

/// The pattern for fancy-regex.
pub fn translated(pattern: &str) -> String {
    let mut out = String::from("(?m)");
    let mut rest = pattern;
    let mut depth = 0;
    // Where the last atom begins in `out`, and where the groups that are open do.
    let mut atom = out.len();
    let mut groups = Vec::new();
    while let Some(c) = rest.chars().next() {
        let inside = depth > 0;
        let begins = out.len();
        if let Some((name, class)) = NAMED.iter().find(|(name, _)| inside && rest.starts_with(name)) {
            out.push_str(class);
            rest = &rest[name.len()..];
            continue;
        }
        let mut length = c.len_utf8();
        match c {
            '\\' => {
                length = escape_length(rest);
                match (&rest[..length], inside) {
                    (r"\w", true) => out.push_str(WORD),
                    (r"\w", false) => out.push_str(&format!("[{WORD}]")),
                    (r"\W", _) => out.push_str(&format!("[^{WORD}]")),
                    (escape, _) => out.push_str(escape),
                }
            }
            '{' if !inside => {
                let Some(end) = interval_length(rest) else {
                    out.push(c);
                    atom = begins;
                    rest = &rest[1..];
                    continue;
                };
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                if let Some(more) = rest.strip_prefix('+') {
                    out.insert_str(atom, "(?:");
                    out.push_str(")+");
                    rest = more;
                }
                continue;
            }
            _ => out.push(c),
        }
        rest = &rest[length..];
        match c {
            '[' => {
                depth += 1;
                // A bracket that closes at once is a character of the class.
                for first in ["^]", "]", "^"] {
                    if let Some(more) = rest.strip_prefix(first) {
                        out.push_str(first);
                        rest = more;
                        break;
                    }
                }
                atom = if inside { atom } else { begins };
            }
            ']' if inside => depth -= 1,
            _ if inside => {}
            '(' => groups.push(begins),
            ')' => atom = groups.pop().unwrap_or(begins),
            '*' | '+' | '?' => {}
            _ => atom = begins,
        }
    }
    out
}

/// The length of an escape, with the name of its property.
fn escape_length(rest: &str) -> usize {
    let mut letters = rest.char_indices().skip(1);
    let Some((at, c)) = letters.next() else { return rest.len() };
    let simple = at + c.len_utf8();
    match (c, rest[simple..].starts_with('{')) {
        ('p' | 'P' | 'x' | 'u', true) => rest[simple..].find('}').map_or(simple, |end| simple + end + 1),
        _ => simple,
    }
}

/// The length of `{2}`, `{1,}`, `{,3}`, `{1,3}`; another brace is a character.
fn interval_length(rest: &str) -> Option<usize> {
    let end = rest.find('}')?;
    let inner = &rest[1..end];
    let numbers = inner.chars().all(|c| c.is_ascii_digit() || c == ',');
    (numbers && inner.chars().any(|c| c.is_ascii_digit())).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::translated;

    #[test]
    fn a_pattern_means_what_it_means_in_oniguruma() {
        for (pattern, wanted) in [
            (r"\s++$", r"(?m)\s++$"),
            (r"\p{N}{1,3}+| ?x", r"(?m)(?:\p{N}{1,3})+| ?x"),
            (r"(?:ab){2}+", r"(?m)(?:(?:ab){2})+"),
            (r"[^\r\n\p{L}]{1,2}+", r"(?m)(?:[^\r\n\p{L}]{1,2})+"),
            (r"\w+", r"(?m)[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}²³¹¼½¾]+"),
            (r"[^\w-]", r"(?m)[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}²³¹¼½¾-]"),
            (r"[[:digit:]x]", r"(?m)[\p{Nd}x]"),
            (r"[]a]{2}", r"(?m)[]a]{2}"),
            ("a{b}", "(?m)a{b}"),
        ] {
            assert_eq!(translated(pattern), wanted);
        }
    }
}
