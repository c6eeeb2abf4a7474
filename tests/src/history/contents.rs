//! What a server holds of the load, read from it directly, and whether that is what the clients were told.

use std::collections::{BTreeMap, BTreeSet};

use super::{ACCOUNTS, BALANCE, CLIENTS, History, Operation, body};
use crate::world::{DATABASE, Side};

/// The rows of the load's tables on one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    ledger: BTreeMap<i64, Row>,
    accounts: BTreeMap<i64, i64>,
    registers: BTreeMap<i64, i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    operation: Operation,
    moved: Option<(i64, i64)>,
    amount: i64,
    body: String,
}

/// What was found wrong, by what it means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged, and not there.
    pub lost: Vec<String>,
    /// There more than once.
    pub doubled: Vec<String>,
    /// A part of a transaction or of a row.
    pub torn: Vec<String>,
    /// There, although its client was told that it failed.
    pub refused: Vec<String>,
    /// Read, and later not read any more.
    pub backwards: Vec<String>,
    /// Numbers of the counter that were given twice.
    pub twice: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl Contents {
    /// Reads everything from a server.
    pub async fn read(side: &impl Side) -> Self {
        let read = async |query: &str| side.sql(DATABASE, query).await;
        let number = |cell: &Option<String>| cell.as_deref().and_then(|text| text.parse::<i64>().ok());
        let known = |cell: &Option<String>| number(cell).unwrap_or(i64::MIN);
        let pairs = |rows: crate::postgres::Rows| rows.iter().map(|row| (known(&row[0]), known(&row[1]))).collect();
        let rows = read("SELECT id, client, number, payer, payee, amount, body FROM ledger").await;
        let ledger = rows.iter().map(|row| {
            let moved = number(&row[3]).zip(number(&row[4]));
            let operation = (known(&row[1]), known(&row[2]));
            let body = row[6].clone().unwrap_or_default();
            (known(&row[0]), Row { operation, moved, amount: known(&row[5]), body })
        });
        Self {
            ledger: ledger.collect(),
            accounts: pairs(read("SELECT id, balance FROM accounts").await),
            registers: pairs(read("SELECT client, number FROM registers").await),
        }
    }

    /// Whether everything in it is also in `other`: what a side had when it stopped serving.
    pub fn is_within(&self, other: &Self) -> bool {
        self.ledger.iter().all(|(id, row)| other.ledger.get(id) == Some(row))
    }

    /// What is torn in itself: the accounts and the registers follow from the ledger.
    pub fn torn(&self) -> Vec<String> {
        let mut torn = Vec::new();
        let mut accounts: BTreeMap<i64, i64> = (1..=ACCOUNTS).map(|id| (id, BALANCE)).collect();
        let mut registers: BTreeMap<i64, i64> = (0..CLIENTS).map(|client| (client, 0)).collect();
        for (id, row) in &self.ledger {
            if row.body != body(row.operation) {
                torn.push(format!("row {id} of {:?} has the body {:?}", row.operation, row.body));
            }
            if let Some((payer, payee)) = row.moved {
                *accounts.entry(payer).or_default() -= row.amount;
                *accounts.entry(payee).or_default() += row.amount;
                let (client, number) = row.operation;
                let register = registers.entry(client).or_default();
                *register = number.max(*register);
            }
        }
        if accounts != self.accounts {
            torn.push(format!("by the ledger the accounts have {accounts:?}, and they have {:?}", self.accounts));
        }
        if registers != self.registers {
            torn.push(format!("by the ledger the registers have {registers:?}, and they have {:?}", self.registers));
        }
        torn
    }

    /// Compares what the side that serves holds with what the clients were told.
    pub fn judged_by(&self, history: &History) -> Verdict {
        let mut verdict = Verdict {
            torn: [self.torn(), history.torn_reads.clone()].concat(),
            backwards: history.backwards.clone(),
            twice: history.twice.clone(),
            ..Verdict::default()
        };
        let mut there: BTreeSet<Operation> = BTreeSet::new();
        for (id, row) in &self.ledger {
            let operation = row.operation;
            if !there.insert(operation) {
                verdict.doubled.push(format!("{operation:?}"));
            }
            match history.acknowledged.get(&operation) {
                Some(Some(given)) if given != id => {
                    verdict.twice.push(format!("{operation:?} was given {given}, and has {id}"));
                }
                Some(_) => {}
                None if history.unknown.contains(&operation) => {}
                None => verdict.refused.push(format!("{operation:?}")),
            }
        }
        let lost = history.acknowledged.keys().filter(|operation| !there.contains(operation));
        verdict.lost.extend(lost.map(|operation| format!("{operation:?}")));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(operation: Operation) -> Row {
        Row { operation, moved: Some((1, 2)), amount: 5, body: body(operation) }
    }

    /// One transfer that was acknowledged, and all that follows from it.
    fn sound() -> (Contents, History) {
        let mut accounts: BTreeMap<i64, i64> = (1..=ACCOUNTS).map(|id| (id, BALANCE)).collect();
        accounts.insert(1, BALANCE - 5);
        accounts.insert(2, BALANCE + 5);
        let mut registers: BTreeMap<i64, i64> = (0..CLIENTS).map(|client| (client, 0)).collect();
        registers.insert(0, 2);
        let contents = Contents { ledger: [(7, transfer((0, 2)))].into(), accounts, registers };
        let mut history = History::default();
        history.acknowledged.insert((0, 2), Some(7));
        (contents, history)
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        let (contents, history) = sound();
        assert!(contents.judged_by(&history).is_clean());

        let (mut contents, mut history) = sound();
        history.acknowledged.insert((1, 1), None);
        assert_eq!(contents.judged_by(&history).lost.len(), 1);
        contents.ledger.insert(8, Row { operation: (1, 1), moved: None, amount: 0, body: body((1, 1)) });
        assert!(contents.judged_by(&history).is_clean());
        contents.ledger.insert(9, Row { operation: (1, 1), moved: None, amount: 0, body: body((1, 1)) });
        assert_eq!(contents.judged_by(&history).doubled.len(), 1);

        let (mut contents, history) = sound();
        contents.accounts.insert(2, BALANCE);
        assert_eq!(contents.judged_by(&history).torn.len(), 1);

        let (mut contents, history) = sound();
        contents.ledger.entry(7).and_modify(|row| row.body.truncate(3));
        assert_eq!(contents.judged_by(&history).torn.len(), 1);

        let (mut contents, mut history) = sound();
        contents.ledger.insert(8, Row { operation: (1, 1), moved: None, amount: 0, body: body((1, 1)) });
        assert_eq!(contents.judged_by(&history).refused.len(), 1);
        history.unknown.insert((1, 1));
        assert!(contents.judged_by(&history).is_clean());

        let (contents, mut history) = sound();
        history.acknowledged.insert((0, 2), Some(6));
        assert_eq!(contents.judged_by(&history).twice.len(), 1);
        history.hand(6, (0, 2));
        history.hand(6, (1, 2));
        assert_eq!(contents.judged_by(&history).twice.len(), 2);
    }
}
