//! The servers' processes, and which of them take requests.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, RwLock},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::truth::Versions;

/// Servers at a time.
pub(crate) const SERVERS: usize = 2;
/// Time for which the near cache of another process may have what was invalidated. Its message takes less than a
/// millisecond as a rule, and a link whose messages are late falls silent after 300 ms.
pub(crate) const NEAR_LAG: Duration = Duration::from_secs(1);
/// Time in which a process starts, answers, or ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that takes requests, as its clients know it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    /// Versions that this process has acknowledged.
    pub(crate) acknowledged: Versions,
}

/// Where requests go.
#[derive(Debug)]
pub(crate) struct Fleet {
    members: RwLock<Vec<Arc<Member>>>,
    /// Versions that were acknowledged for all processes, [`NEAR_LAG`] ago.
    pub(crate) acknowledged: Versions,
}

impl Fleet {
    pub(crate) fn new(cases: usize) -> Arc<Self> {
        let acknowledged = Versions::new(cases);
        Arc::new(Self { members: RwLock::default(), acknowledged })
    }

    /// Returns the member that takes the request with this number.
    pub(crate) fn member(&self, number: u64) -> Arc<Member> {
        let members = self.members.read().unwrap();
        Arc::clone(&members[number as usize % members.len()])
    }

    /// Returns whether a member still takes requests.
    pub(crate) fn has(&self, member: &Arc<Member>) -> bool {
        self.members.read().unwrap().iter().any(|known| Arc::ptr_eq(known, member))
    }

    fn add(&self, member: &Arc<Member>) {
        self.members.write().unwrap().push(Arc::clone(member));
    }

    fn remove(&self, member: &Arc<Member>) {
        self.members.write().unwrap().retain(|known| !Arc::ptr_eq(known, member));
    }
}

/// Process of a server.
pub(crate) struct Process {
    pub(crate) member: Arc<Member>,
    child: Child,
    pipes: Mutex<Pipes>,
}

struct Pipes {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a server and adds it to the fleet.
    pub(crate) async fn start(
        program: &Path,
        urls: &[String; 2],
        fleet: &Fleet,
        cases: usize,
    ) -> Self {
        let mut child = Command::new(program)
            .arg("serve")
            .args(urls)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut output = BufReader::new(output).lines();
        let line = timeout(PATIENCE, output.next_line()).await.expect("the server starts").unwrap();
        let address = line.expect("the server prints its address").parse().unwrap();
        let member = Arc::new(Member { address, acknowledged: Versions::new(cases) });
        fleet.add(&member);
        Self { member, child, pipes: Mutex::new(Pipes { input, output }) }
    }

    /// Sends a line to the process and returns its answer.
    pub(crate) async fn ask(&self, line: &str) -> String {
        let mut pipes = self.pipes.lock().await;
        pipes.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let answer = timeout(PATIENCE, pipes.output.next_line()).await;
        answer.unwrap_or_else(|_| panic!("no answer to {line}")).unwrap().unwrap_or_default()
    }

    /// Ends the process. What it has acknowledged holds for all others if it left nothing unfinished. Returns
    /// whether that is so; if not, it has said what it left.
    pub(crate) async fn end(mut self, fleet: &Fleet) -> bool {
        fleet.remove(&self.member);
        let said = self.ask("end").await;
        let is_drained = said == "drained";
        if is_drained {
            sleep(NEAR_LAG).await;
            fleet.acknowledged.raise_all(&self.member.acknowledged);
        } else {
            eprintln!("\na process ended: {said}");
        }
        timeout(PATIENCE, self.child.wait()).await.expect("the server ends").unwrap();
        is_drained
    }

    /// Returns the resident memory in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(self.folder().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default()
    }

    /// Returns the number of open files.
    pub(crate) fn files(&self) -> u64 {
        fs::read_dir(self.folder().join("fd")).map_or(0, |files| files.count() as u64)
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.id().unwrap_or_default()))
    }
}
