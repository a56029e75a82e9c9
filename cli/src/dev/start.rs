//! The start of a whole cluster: every process, in the order in which they need each other.
//!
//! On the first start the regions join one after the other, and the first one takes `primaries/global` before any
//! other could: who leads and who follows is the order of the regions, and not who happened to be faster. Later starts
//! wait for nobody, because a quorum may need them all.

use std::time::Duration;

use chaos::{Part, ProcessName};
use client::Client;
use tokio::time::{Instant, sleep};
use types::{RegionId, RoleName, reason::Refusal, units::format_duration};

use crate::{
    dev::cluster::{DevCluster, name},
    error::Failure,
};

/// How long the cluster may take to know a region, or to give its first primary the role.
const LIMIT: Duration = Duration::from_secs(60);
/// How long one question may take.
const CALL_LIMIT: Duration = Duration::from_secs(2);
/// How often the registry is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

impl DevCluster {
    /// Starts every process that does not run, and waits until each listens. On the first start the ports become known
    /// here, and the context file is written.
    pub(crate) async fn start_all(&self) -> Result<(), Failure> {
        for region in self.regions() {
            self.start(&name(region, Part::Store)).await?;
        }
        // Who has been in a cluster first: a new one, or one whose disk was lost, is taken in or told off by them.
        for region in self.regions() {
            let coordinator = name(region, Part::Coordinator);
            if !self.is_new(&coordinator)? {
                self.start(&coordinator).await?;
            }
        }
        for region in self.regions() {
            if self.start_new(region, Part::Coordinator).await? {
                self.wait_joined(region).await?;
            }
        }
        for (place, region) in self.regions().iter().enumerate() {
            let new = self.start_new(region, Part::Agent).await?;
            if new && place == 0 {
                self.wait_first_primary(region).await?;
            }
        }
        Ok(())
    }

    /// Starts a process; says whether it was its first start.
    async fn start_new(&self, region: &RegionId, part: Part) -> Result<bool, Failure> {
        let name = name(region, part);
        let new = self.is_new(&name)?;
        self.start(&name).await?;
        Ok(new)
    }

    /// Whether a process has never listened: its ports are not known.
    fn is_new(&self, name: &ProcessName) -> Result<bool, Failure> {
        Ok(self.listen(name)?.main(name.part).is_none())
    }

    /// Waits until a region stands in the registry. Those before it run and are the whole membership, so there is a
    /// quorum.
    async fn wait_joined(&self, region: &RegionId) -> Result<(), Failure> {
        self.ask_until(&format!("{region} has joined"), async |client| {
            let known = client.list_regions().await?;
            Ok(known.iter().any(|r| &r.region == region))
        })
        .await
    }

    /// Waits until the role is somebody's, or is reserved for somebody while an earlier lease is waited out; it can only
    /// be this region's agent, because no other runs yet.
    async fn wait_first_primary(&self, region: &RegionId) -> Result<(), Failure> {
        let role = RoleName::global();
        self.ask_until(&format!("{region} gets {role}"), async |client| {
            let (record, _) = client.get_role(&role).await?;
            Ok(record.holder.is_some() || record.reservation.is_some())
        })
        .await
    }

    async fn ask_until(
        &self,
        what: &str,
        holds: impl AsyncFn(&Client) -> Result<bool, Refusal>,
    ) -> Result<(), Failure> {
        let client = Client::new(self.context()?.client_config())?.with_deadline(CALL_LIMIT);
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = match holds(&client).await {
                Ok(true) => return Ok(()),
                Ok(false) => "not yet".to_owned(),
                Err(refusal) => refusal.message,
            };
            if Instant::now() >= deadline {
                let limit = format_duration(LIMIT);
                return Err(Failure::other(format!("waited {limit} until {what}: {answer}"))
                    .remedy("the logs below regions/ in the cluster's directory say why"));
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
