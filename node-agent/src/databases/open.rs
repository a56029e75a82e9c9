//! PostgreSQL by the adapter.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use adapters::postgres::{Postgres, PostgresConfig, RaiseError, Refusal, Trouble};
use async_trait::async_trait;
use types::{FencingToken, Lineage, RoleName};

use super::{Database, Fences, Probed};
use crate::{claim::Claim, config::PostgresSection};

/// Opens what a section names; need not connect.
///
/// # Errors
/// A sentence that says what is wrong with the section.
pub(super) fn open(section: &PostgresSection) -> Result<Arc<dyn Database>, String> {
    let config = PostgresConfig {
        url: section.url.clone(),
        password_file: section.password_file.clone(),
        ca_file: section.ca_file.clone(),
        patience: section.patience,
    };
    let postgres = Postgres::new(config).map_err(|bad| bad.to_string())?;
    Ok(Arc::new(postgres))
}

#[async_trait]
impl Database for Postgres {
    async fn probe(&self, roles: &BTreeSet<RoleName>, limit: Duration) -> Result<(Probed, Fences), String> {
        let roles: Vec<_> = roles.iter().cloned().collect();
        let attached = self
            .attach(&roles, limit)
            .await
            .map_err(|trouble| trouble.to_string())?;
        let probed = Probed {
            incarnation: (attached.incarnation.system, attached.incarnation.timeline),
            unfit: attached.unfit,
            remarks: attached.remarks,
        };
        Ok((probed, attached.epochs))
    }

    async fn raise(&self, token: &FencingToken, lineage: &Lineage, limit: Duration) -> (Claim, usize) {
        match self.raise_for(token, lineage, limit).await {
            Ok(raised) => (Claim::Claimed, raised.ended),
            // Until the CA has signed that the token's cluster goes on from that one.
            Err(RaiseError::Refused(refusal @ Refusal::OtherCluster { .. })) => {
                (Claim::Unusable(refusal.to_string()), 0)
            }
            Err(RaiseError::Refused(refusal)) => (Claim::Refused(refusal.to_string()), 0),
            Err(RaiseError::Trouble(Trouble::Unreachable(why))) => (Claim::Unreachable(why), 0),
            Err(RaiseError::Trouble(Trouble::Unusable(why))) => (Claim::Unusable(why), 0),
            Err(RaiseError::Trouble(Trouble::Contended(why))) => (Claim::Contended(why), 0),
        }
    }
}
