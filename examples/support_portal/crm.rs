//! A simulated CRM: slow, and with a quota of calls a day.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{interval, sleep},
};

use crate::{
    seed::{self, Random},
    server::Server,
};

pub(crate) const CALLS_A_DAY: u64 = 15_000;
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What customers have reported, and where it stands.
pub(crate) struct Accounts {
    pub(crate) by_name: HashMap<String, Vec<Case>>,
    pub(crate) case_count: u64,
    /// How many changes of the server's list are among them.
    pub(crate) changes: usize,
}

#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) status: &'static str,
    pub(crate) messages: Vec<Message>,
}

#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) author: String,
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) enum Change {
    Case { account: String, subject: String, text: String },
    Comment { account: String, case: String, text: String },
}

#[derive(Debug)]
pub(crate) enum CrmError {
    /// No such account, or no such case of this account.
    NotFound,
    /// No calls are left today.
    QuotaExhausted,
    /// What other processes change is not known.
    Unreachable,
}

/// How many calls the CRM has answered, and how many it will today.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) calls: u64,
    pub(crate) calls_a_day: u64,
    pub(crate) left: u64,
}

/// A client of the CRM. Each method is one call: it takes 250 to 400 ms and one off the quota, which
/// is this process's own.
pub(crate) struct Crm {
    accounts: Mutex<Accounts>,
    /// Where other processes find what this one changes.
    server: Option<Server>,
    seed: u64,
    calls: AtomicU64,
    left: AtomicU64,
}

impl Crm {
    pub(crate) fn new(seed: u64, server: Option<Server>) -> Self {
        Self {
            accounts: Mutex::new(seed::accounts(seed)),
            server,
            seed,
            calls: AtomicU64::new(0),
            left: AtomicU64::new(CALLS_A_DAY),
        }
    }

    pub(crate) async fn cases(&self, account: &str) -> Result<Vec<Case>, CrmError> {
        self.read(|accounts| accounts.cases(account).cloned()).await
    }

    pub(crate) async fn messages(
        &self,
        account: &str,
        case: &str,
    ) -> Result<Vec<Message>, CrmError> {
        self.read(|accounts| Ok(accounts.case(account, case)?.messages.clone())).await
    }

    pub(crate) async fn create_case(
        &self,
        account: &str,
        subject: String,
        text: String,
    ) -> Result<Case, CrmError> {
        self.change(Change::Case { account: account.to_owned(), subject, text }).await
    }

    pub(crate) async fn add_comment(
        &self,
        account: &str,
        case: &str,
        text: String,
    ) -> Result<Message, CrmError> {
        let (account, case) = (account.to_owned(), case.to_owned());
        let mut case = self.change(Change::Comment { account, case, text }).await?;
        case.messages.pop().ok_or(CrmError::NotFound)
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            calls: self.calls.load(Ordering::Relaxed),
            calls_a_day: CALLS_A_DAY,
            left: self.left.load(Ordering::Relaxed),
        }
    }

    /// Gives the quota back every 24 hours, from now on.
    pub(crate) async fn renew_quota_daily(&self) {
        let mut days = interval(DAY);
        // The first tick is now, and today's quota may be in use already.
        days.tick().await;
        loop {
            days.tick().await;
            self.left.store(CALLS_A_DAY, Ordering::Relaxed);
        }
    }

    async fn read<T>(
        &self,
        look: impl FnOnce(&mut Accounts) -> Result<T, CrmError>,
    ) -> Result<T, CrmError> {
        self.call(async {
            let mut accounts = self.accounts.lock().await;
            if let Some(server) = &self.server {
                // Where that cannot be read, the last that is known is shown.
                for change in server.changes_after(accounts.changes).await.unwrap_or_default() {
                    let _ = accounts.follow(change);
                }
            }
            look(&mut accounts)
        })
        .await
    }

    /// Returns the case that was added or commented.
    async fn change(&self, change: Change) -> Result<Case, CrmError> {
        self.call(async {
            let mut accounts = self.accounts.lock().await;
            let Some(server) = &self.server else { return accounts.apply(change) };
            let number = server.add(&change).await.map_err(|_| CrmError::Unreachable)?;
            if number <= accounts.changes {
                // Somebody has emptied the server.
                *accounts = seed::accounts(self.seed);
            }
            let mut changed = Err(CrmError::Unreachable);
            let changes = server.changes_after(accounts.changes).await;
            for change in changes.map_err(|_| CrmError::Unreachable)? {
                let followed = accounts.follow(change);
                if accounts.changes == number {
                    changed = followed;
                }
            }
            changed
        })
        .await
    }

    async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, CrmError>>,
    ) -> Result<T, CrmError> {
        let number = self.take_from_quota()?;
        let there = self.latency(number) / 2;
        let back = self.latency(number) - there;
        // One half on the way there and one on the way back: a read that is overtaken by a write
        // brings what was true before it, as it would from a real CRM.
        sleep(there).await;
        let answer = work.await;
        sleep(back).await;
        answer
    }

    /// Returns the number of the call.
    fn take_from_quota(&self) -> Result<u64, CrmError> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .map_err(|_| CrmError::QuotaExhausted)?;
        Ok(self.calls.fetch_add(1, Ordering::Relaxed))
    }

    fn latency(&self, call: u64) -> Duration {
        Duration::from_millis(Random::new(self.seed ^ call).within(250..=400))
    }
}

impl Accounts {
    fn cases(&mut self, account: &str) -> Result<&mut Vec<Case>, CrmError> {
        self.by_name.get_mut(account).ok_or(CrmError::NotFound)
    }

    /// Returns a case of this account; those of others are not found.
    fn case(&mut self, account: &str, id: &str) -> Result<&mut Case, CrmError> {
        let mut cases = self.cases(account)?.iter_mut();
        cases.find(|case| case.id == id).ok_or(CrmError::NotFound)
    }

    /// Makes a change of the server's list.
    fn follow(&mut self, change: Change) -> Result<Case, CrmError> {
        self.changes += 1;
        self.apply(change)
    }

    /// Makes a change: a new case, or a comment, which opens its case again.
    fn apply(&mut self, change: Change) -> Result<Case, CrmError> {
        match change {
            Change::Case { account, subject, text } => {
                let id = format!("C{}", self.case_count + 1);
                let message = Message { author: account.clone(), text };
                let case = Case { id, subject, status: "open", messages: vec![message] };
                self.cases(&account)?.push(case.clone());
                self.case_count += 1;
                Ok(case)
            }
            Change::Comment { account, case, text } => {
                let case = self.case(&account, &case)?;
                case.status = "open";
                case.messages.push(Message { author: account, text });
                Ok(case.clone())
            }
        }
    }
}
