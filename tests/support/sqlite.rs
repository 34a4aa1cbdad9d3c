//! SQLite files, made as a server would use them.

use std::path::Path;

use pushmux::core::database::{Config, Database};

/// Runs statements on a file, which is made if there is none.
pub fn execute(path: &Path, statements: &[String]) {
    let url = format!("sqlite:{}?mode=rwc", path.display());
    let config = Config { url: url.into(), ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let db = Database::open("test", &config).unwrap();
        for statement in statements {
            db.execute(statement, []).await.unwrap();
        }
    });
}
