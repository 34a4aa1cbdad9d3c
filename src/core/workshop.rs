//! Makes auth providers and sinks: the same way at start and for a reload.

use std::collections::HashMap;
use std::sync::Arc;

use super::auth::{AuthProvider, Guarded};
use super::bulkhead::Bulkhead;
use super::database::{self, Database};
use super::health::Health;
use super::metrics::{Counted, Metrics};
use super::plugin::{AuthBuild, AuthCx, BuiltSink, Databases, Jobs, Running, SinkBuild, SinkCx};
use super::server::StartError;

/// What plugins are given that others need as well.
#[derive(Clone)]
pub(super) struct Workshop {
    pub jobs: Jobs,
    /// Connections of live sinks.
    pub connections: Jobs,
    pub databases: Databases,
    pub metrics: Metrics,
    pub health: Health,
}

impl Workshop {
    /// Opens those data bases that are not open yet.
    pub(super) fn open(
        &mut self,
        configs: Vec<(String, database::Config)>,
    ) -> Result<(), StartError> {
        let mut databases: HashMap<_, _> = (*self.databases.0).clone();
        for (name, config) in configs {
            if databases.contains_key(&name) {
                continue;
            }
            let statements = self.metrics.statements(&name);
            let database = Database::open_counted(&name, &config, statements)
                .map_err(|error| StartError::plugin("database", &name, error))?;
            databases.insert(name, database);
        }
        self.databases.0 = Arc::new(databases);
        Ok(())
    }

    /// A provider, and the jobs that are its own. Whether it `replaces` another: see [`AuthCx`].
    pub(super) async fn auth(
        &self,
        name: &str,
        build: AuthBuild,
        replaces: bool,
    ) -> Result<(Arc<dyn AuthProvider>, Jobs), StartError> {
        let jobs = self.jobs.child();
        let cx = AuthCx {
            name: name.to_owned(),
            jobs: jobs.clone(),
            databases: self.databases.clone(),
            metrics: self.metrics.clone(),
            replaces,
        };
        match build.build(cx).await {
            Ok(running) => {
                let bulkhead = Arc::new(self.bulkhead(format!("auth.{name}")));
                let provider = Arc::new(Guarded { provider: running.it, bulkhead });
                let verdicts = self.metrics.verdicts(name);
                Ok((Arc::new(Counted { provider, verdicts }), jobs))
            }
            Err(error) => {
                jobs.retire();
                Err(StartError::plugin("auth", name, error))
            }
        }
    }

    /// What separates the plugin of this table from everything else.
    pub(super) fn bulkhead(&self, table: String) -> Bulkhead {
        let faults = self.metrics.faults(&table);
        Bulkhead::new(table, faults)
    }

    /// A sink, and the jobs that are its own.
    pub(super) async fn sink(
        &self,
        name: &str,
        build: SinkBuild,
    ) -> Result<(Running<BuiltSink>, Jobs), StartError> {
        let jobs = self.jobs.child();
        let cx = SinkCx {
            name: name.to_owned(),
            jobs: jobs.clone(),
            connections: self.connections.clone(),
            databases: self.databases.clone(),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
        };
        match build.build(cx).await {
            Ok(running) => Ok((running, jobs)),
            Err(error) => {
                jobs.retire();
                Err(StartError::plugin("sink", name, error))
            }
        }
    }
}
