//! GTIDs: which transactions a server has, in MySQL's and in MariaDB's way of counting them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::error::Malformed;

/// More origins than a real cluster ever has.
const ORIGINS_MAX: usize = 100_000;

fn malformed(text: &str) -> Malformed {
    Malformed { what: "set of GTIDs", at: 0, limit: text.len() }
}

/// Who numbers transactions in MySQL: a server, or a tag of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The server's `server_uuid`.
    pub uuid: [u8; 16],
    /// The tag in lower case; empty for transactions without one.
    pub tag: String,
}

/// The first and the last number of a run without gaps.
pub type Run = (u64, u64);

/// MySQL's set of transactions: for each origin the runs of its numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet {
    runs: BTreeMap<Origin, Vec<Run>>,
}

impl GtidSet {
    /// Adds one transaction; zero is none.
    pub fn add(&mut self, origin: Origin, number: u64) {
        self.add_run(origin, (number, number));
    }

    /// Adds a run of them. What is there already stays.
    pub fn add_run(&mut self, origin: Origin, (first, last): Run) {
        if first == 0 || last < first {
            return;
        }
        let runs = self.runs.entry(origin).or_default();
        // The usual case: the next number of the last run.
        if let Some((_, end)) = runs.last_mut()
            && end.checked_add(1) == Some(first)
        {
            *end = last;
            return;
        }
        let from = runs.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = runs.partition_point(|&(begin, _)| begin <= last.saturating_add(1));
        let touched = runs.get(from..to).unwrap_or_default();
        let begin = touched.first().map_or(first, |run| run.0.min(first));
        let end = touched.last().map_or(last, |run| run.1.max(last));
        runs.splice(from..to.max(from), [(begin, end)]);
    }

    /// Whether the transaction is in it.
    pub fn contains(&self, origin: &Origin, number: u64) -> bool {
        self.holds(origin, (number, number))
    }

    fn holds(&self, origin: &Origin, (first, last): Run) -> bool {
        self.runs.get(origin).is_some_and(|runs| {
            let at = runs.partition_point(|&(_, end)| end < first);
            runs.get(at).is_some_and(|&(begin, end)| begin <= first && last <= end)
        })
    }

    /// Whether every transaction of `other` is in it.
    pub fn covers(&self, other: &Self) -> bool {
        other.runs.iter().all(|(origin, runs)| runs.iter().all(|&run| self.holds(origin, run)))
    }

    /// Adds every transaction of `other`.
    pub fn union(&mut self, other: &Self) {
        for (origin, runs) in &other.runs {
            for &run in runs {
                self.add_run(origin.clone(), run);
            }
        }
    }

    /// Takes one transaction out. Where it is not, nothing changes.
    pub fn remove(&mut self, origin: &Origin, number: u64) {
        let Some(runs) = self.runs.get_mut(origin) else {
            return;
        };
        let at = runs.partition_point(|&(_, end)| end < number);
        let Some(&(begin, end)) = runs.get(at).filter(|run| run.0 <= number) else {
            return;
        };
        let before = (begin, number.saturating_sub(1));
        let after = (number.saturating_add(1), end);
        let left = [before, after].into_iter().filter(|run| run.0 <= run.1);
        let left = left.filter(|_| number > 0).collect::<Vec<Run>>();
        runs.splice(at..=at, left);
        if runs.is_empty() {
            self.runs.remove(origin);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Every origin with its runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Origin, &[Run])> {
        self.runs.iter().map(|(origin, runs)| (origin, runs.as_slice()))
    }
}

/// A `server_uuid` as text, lower case.
pub struct Uuid<'a>(pub &'a [u8; 16]);

impl fmt::Display for Uuid<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut uuid = [0_u8; 16];
    let mut digits = text.bytes().filter(|&byte| byte != b'-');
    for byte in &mut uuid {
        let pair = [digits.next()?, digits.next()?];
        if !pair.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        *byte = u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?;
    }
    (digits.next().is_none() && matches!(text.len(), 32 | 36)).then_some(uuid)
}

fn parse_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for GtidSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<&[u8; 16]> = None;
        for (Origin { uuid, tag }, runs) in self.iter() {
            if before != Some(uuid) {
                let comma = if before.is_some() { "," } else { "" };
                write!(formatter, "{comma}{}", Uuid(uuid))?;
            }
            before = Some(uuid);
            if !tag.is_empty() {
                write!(formatter, ":{tag}")?;
            }
            for (first, last) in runs {
                if first == last {
                    write!(formatter, ":{first}")?;
                } else {
                    write!(formatter, ":{first}-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = Malformed;

    /// Reads what `@@gtid_executed` tells, with line breaks and several tags for one server.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut pieces = part.split(':').map(str::trim);
            let uuid = pieces.next().and_then(parse_uuid);
            let uuid = uuid.ok_or_else(|| malformed(text))?;
            let mut tag = String::new();
            for piece in pieces {
                if piece.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') {
                    tag = piece.to_ascii_lowercase();
                    continue;
                }
                let run = match piece.split_once('-') {
                    Some((first, last)) => parse_number(first.trim()).zip(parse_number(last.trim())),
                    None => parse_number(piece).map(|number| (number, number)),
                };
                let run = run.filter(|&(first, last)| first > 0 && first <= last);
                let run = run.ok_or_else(|| malformed(text))?;
                let tag = tag.clone();
                set.add_run(Origin { uuid, tag }, run);
            }
            if set.runs.len() > ORIGINS_MAX {
                return Err(malformed(text));
            }
        }
        Ok(set)
    }
}

/// MariaDB's place: for each domain the server and the number of its last transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainPositions {
    last: BTreeMap<u32, (u32, u64)>,
}

impl DomainPositions {
    /// The domain is now there. A lower number than before is an earlier place and changes nothing.
    pub fn advance(&mut self, domain: u32, server: u32, number: u64) {
        let last = self.last.entry(domain).or_default();
        if number >= last.1 {
            *last = (server, number);
        }
    }

    /// Whether it is at least as far as `other` in each of its domains.
    pub fn covers(&self, other: &Self) -> bool {
        other
            .last
            .iter()
            .all(|(domain, (_, number))| self.last.get(domain).is_some_and(|(_, reached)| reached >= number))
    }

    /// Whether nothing has happened in any domain.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }
}

impl fmt::Display for DomainPositions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (domain, (server, number))) in self.last.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{domain}-{server}-{number}")?;
        }
        Ok(())
    }
}

impl FromStr for DomainPositions {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut positions = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut numbers = part.split('-').map(parse_number);
            let (Some(Some(domain)), Some(Some(server)), Some(Some(number)), None) =
                (numbers.next(), numbers.next(), numbers.next(), numbers.next())
            else {
                return Err(malformed(text));
            };
            let small = u32::try_from(domain).ok().zip(u32::try_from(server).ok());
            let (domain, server) = small.ok_or_else(|| malformed(text))?;
            positions.advance(domain, server, number);
            if positions.last.len() > ORIGINS_MAX {
                return Err(malformed(text));
            }
        }
        Ok(positions)
    }
}

/// The executed transactions of either family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gtids {
    /// The server has none.
    None,
    /// MySQL's.
    Mysql(GtidSet),
    /// MariaDB's.
    Mariadb(DomainPositions),
}

impl Gtids {
    /// Whether every transaction of `other` is among them. Nothing is known where there are no GTIDs.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mysql(this), Self::Mysql(other)) => this.covers(other),
            (Self::Mariadb(this), Self::Mariadb(other)) => this.covers(other),
            _ => false,
        }
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Mysql(set) => set.fmt(formatter),
            Self::Mariadb(positions) => positions.fmt(formatter),
        }
    }
}

impl FromStr for Gtids {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.trim().is_empty() {
            Ok(Self::None)
        } else if text.contains(':') {
            text.parse().map(Self::Mysql)
        } else {
            text.parse().map(Self::Mariadb)
        }
    }
}
