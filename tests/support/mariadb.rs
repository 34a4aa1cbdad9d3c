//! A MariaDB of a test's own: real, on a free port, and as unreliable as the test wants.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use super::eventually;

/// Characters that a URL or an option file could trip over.
const PASSWORD: &str = "p@ss:w/o#r;d";
const USER: &str = "pushmux";
const DATABASE: &str = "openitcockpit";

/// A running server; killed when dropped.
pub struct MariaDb {
    child: Child,
    port: u16,
    dir: TempDir,
}

/// A table that nobody else can use until this is dropped.
pub struct Locked(Child);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl MariaDb {
    /// A server with the product's empty tables.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        run(Command::new("cp").args(["-a"]).arg(template().join(".")).arg(dir.path().join("data")));
        let (child, port) = (0..5)
            .find_map(|_| {
                let port = free_port();
                Some((listen(dir.path(), port)?, port))
            })
            .expect("mariadbd starts");
        let db = Self { child, port, dir };
        db.run_sql("", &format!(
            "CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4; CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON {DATABASE}.* TO {USER}@'127.0.0.1'"
        ));
        db.sql(include_str!("../oitc/schema.sql"));
        db
    }

    /// For `url` of `[database.<name>]`.
    pub fn url(&self) -> String {
        format!("mysql://{USER}:p%40ss%3Aw%2Fo%23r%3Bd@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// For `cnf` of `[database.<name>]`: an option file as the product's installer writes it.
    pub fn cnf(&self) -> PathBuf {
        let path = self.dir.path().join("mysql.cnf");
        let text = format!(
            "; made for a test\n[client]\ndatabase = {DATABASE}\nhost = 127.0.0.1\nuser = {USER}\npassword = {PASSWORD}\nport = {}\n",
            self.port
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs statements as root; rows as lines, columns separated by tabs.
    pub fn sql(&self, sql: &str) -> String {
        self.run_sql(DATABASE, sql)
    }

    /// Adds a row. Columns that are left out are empty or 0, as `sql_mode` is.
    pub fn insert(&self, table: &str, row: &[(&str, &str)]) {
        self.sql(&insert(table, row));
    }

    /// Sets a row of `systemsettings`, which is added if there is none of exactly this
    /// name. Nobody sees it missing in between.
    pub fn set(&self, key: &str, value: &str) {
        let insert = insert("systemsettings", &[("key", key), ("value", value)]);
        let key = quote(key);
        self.sql(&format!(
            "START TRANSACTION; DELETE FROM systemsettings WHERE BINARY `key` = {key}; {insert}; COMMIT"
        ));
    }

    /// SELECT statements so far, from all clients.
    pub fn selects(&self) -> usize {
        let shown = self.sql("SHOW GLOBAL STATUS LIKE 'Com_select'");
        shown.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again, on the same port, with what had been committed.
    pub fn restart(&mut self) {
        self.kill();
        self.child = listen(self.dir.path(), self.port).expect("mariadbd starts again");
    }

    /// Accepts connections and does nothing more, until [`Self::thaw`].
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Keeps everybody else from a table, who then waits.
    pub fn lock(&self, table: &str) -> Locked {
        let mut child = self
            .client(DATABASE)
            .arg("--unbuffered")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its standard input stays open, and with it the session.
        let text = format!("LOCK TABLES `{table}` WRITE; SELECT 'locked';\n");
        child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        Locked(child)
    }

    fn signal(&self, name: &str) {
        run(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]));
    }

    fn run_sql(&self, database: &str, sql: &str) -> String {
        let output = self.client(database).args(["--execute", sql]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn client(&self, database: &str) -> Command {
        let mut client = Command::new("mariadb");
        client
            .args(["--no-defaults", "--user=root", "--batch", "--raw", "--skip-column-names"])
            .args(["--default-character-set=utf8mb4", "--connect-timeout=10"])
            .arg(format!("--socket={}", socket(self.dir.path()).display()))
            .arg(format!("--database={database}"));
        client
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn insert(table: &str, row: &[(&str, &str)]) -> String {
    let columns: Vec<_> = row.iter().map(|(column, _)| format!("`{column}`")).collect();
    let values: Vec<_> = row.iter().map(|(_, value)| quote(value)).collect();
    format!("INSERT INTO `{table}` ({}) VALUES ({})", columns.join(", "), values.join(", "))
}

/// An SQL string.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A data folder as the installer leaves it. Making one takes seconds, so it is made
/// once and copied; it outlives the tests, beside the other things cargo builds.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let version = Command::new(daemon()).arg("--version").output().unwrap().stdout;
        let version = String::from_utf8(version).unwrap();
        let version = version.split_whitespace().nth(2).unwrap();
        let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let finished = all.join(format!("mariadb-{version}"));
        if !finished.exists() {
            let fresh = tempfile::tempdir_in(all).unwrap().keep();
            run(Command::new("mariadb-install-db")
                .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                .args(["--skip-test-db", "--innodb-log-file-size=4M"])
                .args(as_root())
                .arg(format!("--datadir={}", fresh.display())));
            // Another run of the tests may have been faster; one of the two stays.
            if fs::rename(&fresh, &finished).is_err() {
                fs::remove_dir_all(&fresh).unwrap();
            }
        }
        finished
    })
}

/// Starts the server and waits until it answers; none when it ended instead, as it does
/// when somebody else took the port.
fn listen(dir: &Path, port: u16) -> Option<Child> {
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut child = Command::new(daemon())
        .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"])
        // As on installed systems, where the installer asks for it.
        .arg("--sql-mode=")
        // What was committed must outlive a kill, not a power failure.
        .args(["--innodb-flush-log-at-trx-commit=2", "--skip-log-bin", "--skip-performance-schema"])
        .args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M"])
        .args(as_root())
        .arg(format!("--port={port}"))
        .arg(format!("--datadir={}", dir.join("data").display()))
        .arg(format!("--pid-file={}", dir.join("pid").display()))
        .arg(format!("--socket={}", socket(dir).display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut ended = false;
    eventually("MariaDB answers", || {
        ended = child.try_wait().unwrap().is_some();
        ended || (greets(port) && socket(dir).exists())
    });
    (!ended).then_some(child)
}

/// Whether a server speaks first, as MariaDB does.
fn greets(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.read_exact(&mut [0]).is_ok()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("socket")
}

/// Debian has it where only root's PATH leads.
fn daemon() -> &'static str {
    ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("mariadbd")
}

/// MariaDB refuses to run as root unless it is told to.
fn as_root() -> Option<&'static str> {
    (fs::metadata("/proc/self").unwrap().uid() == 0).then_some("--user=root")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}
