//! The configs of a cluster's processes and its context, written as far as the ports are known.

use std::collections::BTreeMap;

use chaos::{Part, ProcessName};
use client::Context;

use crate::{
    dev::{
        certs,
        cluster::{DevCluster, name},
        files::{self, Access},
        templates::{AgentConfig, ContextConfig, CoordinatorConfig, StoreConfig},
    },
    error::Failure,
};

impl DevCluster {
    /// How the command line and the client library reach it, as far as it has been started.
    pub(crate) fn context(&self) -> Result<Context, Failure> {
        Ok(Context {
            endpoints: self.api_urls()?,
            tls: self.certs().admin(),
            store: Some(self.store_credentials().clone()),
            stores: BTreeMap::new(),
        })
    }

    /// Writes a process's config as it is known now: before the first start of the others their ports are not.
    pub(super) fn write_config(&self, name: &ProcessName) -> Result<(), Failure> {
        files::make_dir(&self.layout().data(name))?;
        let text = match name.part {
            Part::Coordinator => self.coordinator_config(name)?,
            Part::Agent => self.agent_config(name)?,
            Part::Store => self.store_config(name),
        };
        files::write(&self.layout().config(name), text.as_bytes(), Access::Public)
    }

    fn coordinator_config(&self, name: &ProcessName) -> Result<String, Failure> {
        let region = &name.region;
        let own = self.listen(name)?.api_url();
        let mut join = self.api_urls()?;
        join.retain(|url| Some(url) != own.as_ref());
        let bootstrap = self.regions().first() == Some(region);
        Ok(CoordinatorConfig {
            node: certs::coordinator_node(region)?,
            region,
            data_dir: &self.layout().data(name),
            tls: &self.certs().coordinator(region),
            bootstrap,
            // The founder too, from its second start on: should its disk be lost, it founds no second cluster.
            join: &join,
            timing: &self.spec().timing,
            fixes_elections: true,
        }
        .render())
    }

    fn agent_config(&self, name: &ProcessName) -> Result<String, Failure> {
        let region = &name.region;
        let store = ProcessName {
            region: region.clone(),
            part: Part::Store,
        };
        let endpoint = self.listen(&store)?.s3_url();
        let endpoint = endpoint.ok_or_else(|| Failure::other(format!("{store} has never been started")))?;
        Ok(AgentConfig {
            node: certs::agent_node(region)?,
            region,
            data_dir: &self.layout().data(name),
            coordinators: &self.api_urls()?,
            tls: &self.certs().agent(region),
            store_endpoint: &endpoint,
            keys: self.store_credentials(),
        }
        .render())
    }

    fn store_config(&self, name: &ProcessName) -> String {
        StoreConfig {
            data_dir: &self.layout().data(name),
            keys: self.store_credentials(),
        }
        .render()
    }

    pub(super) fn write_context(&self) -> Result<(), Failure> {
        let text = ContextConfig {
            endpoints: &self.api_urls()?,
            tls: &self.certs().admin(),
            keys: self.store_credentials(),
        }
        .render();
        files::write(&self.layout().context(), text.as_bytes(), Access::Public)
    }

    /// APIs of the coordinators that have been started once.
    fn api_urls(&self) -> Result<Vec<String>, Failure> {
        let mut urls = Vec::new();
        for region in self.regions() {
            urls.extend(self.listen(&name(region, Part::Coordinator))?.api_url());
        }
        Ok(urls)
    }
}
