//! A PostgreSQL server, a shop in it, and those who write there.

use std::{
    fmt::Write as _,
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use adapters::postgres::{Postgres, PostgresConfig, RaiseError, Raised, token_text};
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, NoTls};
use types::{ClusterId, Epoch, FencingToken, Holder, NodeIncarnation, RoleName};

/// For whatever is waited for; far above what it takes.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// `nobody`: the server refuses to run as root.
const NOBODY: u32 = 65534;

/// A server of this test's own.
pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    programs: PathBuf,
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(Signal::QUIT);
        drop(self.child.wait());
    }
}

impl Server {
    /// Starts one with more settings, and sets the shop up; none where there is no PostgreSQL.
    pub(crate) async fn start(settings: &str) -> Option<Self> {
        let server = Self::bare(settings).await?;
        let admin = server.admin().await;
        admin.batch_execute("CREATE DATABASE shop").await.unwrap();
        let admin = server.connect("postgres").await;
        admin.batch_execute(SHOP).await.unwrap();
        Some(server)
    }

    /// Starts one with nothing in it.
    #[expect(clippy::print_stdout, reason = "a test that did nothing says so")]
    pub(crate) async fn bare(settings: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            let why = "no PostgreSQL server here; on Debian: apt-get install postgresql";
            assert!(
                std::env::var("REGENT_REQUIRE_TOOLS").as_deref() != Ok("1"),
                "{why}"
            );
            println!("skipped: {why}");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        if rustix::process::getuid().is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = dir.path().join("data");
        let made = as_nobody(&programs.join("initdb"))
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut config = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        let socket = dir.path().display();
        write!(
            config,
            "\nlisten_addresses = ''\nunix_socket_directories = '{socket}'\nshared_buffers = 16MB\nmax_connections = 60\n\
             autovacuum = off\n{settings}\n"
        )
        .unwrap();
        fs::write(data.join("postgresql.conf"), config).unwrap();
        let child = spawn(&programs, dir.path());
        let mut server = Self {
            dir,
            programs,
            child,
            port: 5432,
        };
        server.up().await;
        Some(server)
    }

    /// Waits until it answers.
    async fn up(&mut self) {
        let up = tokio::time::timeout(SOON, self.answers()).await;
        let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert_eq!(up, Ok(true), "{}", log());
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }

    /// Ends it as a loss of power would end its processes, and starts it again on what is on its disk.
    pub(crate) async fn crash(&mut self) {
        // SIGQUIT: no checkpoint, nothing flushed, recovery at the next start.
        self.signal(Signal::QUIT);
        self.child.wait().unwrap();
        self.start_again().await;
    }

    /// Starts it on what is on its disk.
    pub(crate) async fn start_again(&mut self) {
        self.child = spawn(&self.programs, self.dir.path());
        self.up().await;
    }

    /// Starts it anew on a port that the system picks, on 127.0.0.1, with more settings and another first rule of who may
    /// connect.
    pub(crate) async fn listen(&mut self, settings: &str, rule: &str) -> u16 {
        let data = self.dir.path().join("data");
        let hba = data.join("pg_hba.conf");
        let rules = fs::read_to_string(&hba).unwrap();
        fs::write(&hba, format!("{rule}\nhost all all 127.0.0.1/32 reject\n{rules}")).unwrap();
        let config = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        // Somebody else may take the port before the server does.
        for _ in 0..20 {
            self.signal(Signal::QUIT);
            drop(self.child.wait());
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            // The socket's name holds the port, and stays as it is known.
            let text = format!("{config}\n{settings}\nlisten_addresses = '127.0.0.1'\nport = {port}\n");
            fs::write(data.join("postgresql.conf"), text).unwrap();
            self.child = spawn(&self.programs, self.dir.path());
            self.port = port;
            if self.answers().await {
                return port;
            }
        }
        panic!("no port to be had");
    }

    /// Whether it answers, or has ended.
    async fn answers(&mut self) -> bool {
        while connect(&self.url("postgres"), "postgres").await.is_err() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// Stops it for good.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::INT);
        self.child.wait().unwrap();
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let path = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://{path}:{}/{database}", self.port)
    }

    /// A superuser, outside the shop.
    pub(crate) async fn admin(&self) -> Client {
        connect(&self.url("postgres"), "postgres").await.unwrap()
    }

    /// Somebody in the shop.
    pub(crate) async fn connect(&self, user: &str) -> Client {
        connect(&self.url("shop"), user).await.unwrap()
    }

    pub(crate) fn regent(&self) -> Postgres {
        self.regent_with(Duration::from_millis(300))
    }

    pub(crate) fn regent_with(&self, patience: Duration) -> Postgres {
        let config = PostgresConfig {
            patience,
            ..PostgresConfig::new(self.url("shop"))
        };
        Postgres::new(config).unwrap()
    }

    /// A shop whose tables are guarded, and its fence at epoch `counter` of node a1.
    pub(crate) async fn guarded(counter: u32) -> Option<Self> {
        Self::guarded_with(counter, "").await
    }

    pub(crate) async fn guarded_with(counter: u32, settings: &str) -> Option<Self> {
        let server = Self::start(settings).await?;
        server.guard().await;
        server.raise(&token(counter, "a1")).await.unwrap();
        Some(server)
    }

    /// Installs the fence, and guards the shop's tables.
    pub(crate) async fn guard(&self) {
        self.guard_by("primaries/orders").await;
    }

    /// The same for another role.
    pub(crate) async fn guard_by(&self, role: &str) {
        self.regent().attach(&[], SOON).await.unwrap();
        let admin = self.connect("postgres").await;
        let sql = format!(
            "GRANT USAGE ON SCHEMA regent TO shop_owner; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA regent TO shop_owner; \
             SET ROLE shop_owner; SELECT regent.attach('shop.orders', '{role}'); \
             SELECT regent.attach('shop.lines', '{role}'); SELECT regent.attach('shop.events', '{role}')"
        );
        admin.batch_execute(&sql).await.unwrap();
    }

    pub(crate) async fn raise(&self, token: &FencingToken) -> Result<Raised, RaiseError> {
        self.regent().raise(token, SOON).await
    }

    /// How many orders there are, and the sum of their amounts.
    pub(crate) async fn orders(&self) -> (i64, i64) {
        let row = self.connect("postgres").await;
        let row = row
            .query_one(
                "SELECT count(*), coalesce(sum(amount), 0)::bigint FROM shop.orders",
                &[],
            )
            .await
            .unwrap();
        (row.get(0), row.get(1))
    }

    /// Waits until a raise waits for somebody's transaction.
    pub(crate) async fn raise_waits(&self) {
        let admin = self.admin().await;
        let waits = async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'regent_fence' AND wait_event_type = 'Lock' \
                       AND query LIKE 'UPDATE%'";
            while admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, waits).await.unwrap();
    }
}

/// Orders with lines below them, events in partitions, an owner that nobody logs in as, and an application.
const SHOP: &str = "
    CREATE ROLE regent_fence LOGIN;
    GRANT pg_signal_backend TO regent_fence;
    GRANT CREATE ON DATABASE shop TO regent_fence;
    CREATE ROLE shop_owner;
    CREATE ROLE app LOGIN;
    CREATE SCHEMA shop AUTHORIZATION shop_owner;
    SET ROLE shop_owner;
    CREATE TABLE shop.orders (id integer PRIMARY KEY, amount integer NOT NULL);
    CREATE TABLE shop.lines (id integer, item integer REFERENCES shop.orders ON DELETE CASCADE);
    CREATE TABLE shop.events (id integer, year integer) PARTITION BY LIST (year);
    CREATE TABLE shop.events_25 PARTITION OF shop.events FOR VALUES IN (2025);
    CREATE TABLE shop.log (line text);
    CREATE VIEW shop.large AS SELECT * FROM shop.orders WHERE amount > 100;
    GRANT USAGE ON SCHEMA shop TO app;
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA shop TO app;
    RESET ROLE;
";

fn programs() -> Option<PathBuf> {
    let known = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut known: Vec<_> = known.map(|entry| entry.path().join("bin")).collect();
    known.sort();
    known.reverse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let both = |dir: &PathBuf| dir.join("initdb").exists() && dir.join("postgres").exists();
    known.into_iter().chain(std::env::split_paths(&path)).find(both)
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").env_clear().env("LC_ALL", "C");
    command
}

fn spawn(programs: &Path, dir: &Path) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    as_nobody(&programs.join("postgres"))
        .arg("-D")
        .arg(dir.join("data"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

async fn connect(url: &str, user: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    let (client, connection) = config.user(user).connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) fn role() -> RoleName {
    "primaries/orders".parse().unwrap()
}

/// Epoch g1.e`counter`, held by west/`node`.
pub(crate) fn token(counter: u32, node: &str) -> FencingToken {
    FencingToken {
        cluster_id: ClusterId::from_u128(7),
        role: role(),
        epoch: Epoch::new(1, counter),
        holder: Holder {
            region: "west".parse().unwrap(),
            node: node.parse().unwrap(),
            incarnation: NodeIncarnation::from_u128(u128::from(node.as_bytes()[0])),
        },
    }
}

/// `SET LOCAL` of a token.
pub(crate) fn shown(token: &FencingToken) -> String {
    format!("SET LOCAL regent.token = '{}'", token_text(token).unwrap())
}

/// Writes in a transaction of its own that shows a token first; the SQLSTATE of what went wrong.
pub(crate) async fn write(client: &Client, token: &FencingToken, sql: &str) -> Result<(), String> {
    let all = format!("BEGIN; {}; {sql}; COMMIT", shown(token));
    let done = client.batch_execute(&all).await;
    if done.is_err() && !client.is_closed() {
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    done.map_err(|error| code(&error))
}

/// A SQLSTATE, or `closed`.
pub(crate) fn code(error: &tokio_postgres::Error) -> String {
    error
        .code()
        .map_or_else(|| "closed".to_owned(), |code| code.code().to_owned())
}
