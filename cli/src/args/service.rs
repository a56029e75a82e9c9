//! `regent service …`.

use std::num::NonZeroU16;

use clap::{Args, Subcommand};
use types::{
    NodeId, ServiceName,
    service::{ServiceKey, ServiceProtocol},
};

use super::{ChangeArgs, ReadArgs, key_value};

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Lists the instances of services, and whether callers should go to them.
    List(ServiceListArgs),
    /// Shows one instance.
    Get(ServiceGetArgs),
    /// Says that a node offers a service at a port. It ends with that run of the node's agent; an agent registers what its config
    /// names, at each start.
    Register(ServiceRegisterArgs),
    /// Says that a node offers a service at a port no more.
    Deregister(ServiceDeregisterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServiceListArgs {
    /// Only of this service.
    pub(crate) service: Option<ServiceName>,
    /// Only instances that meet this condition, as in 'health=HEALTHY' or 'labels.zone=a'; may be given several times. Fields:
    /// service, node, region, port, address, protocol, health, labels.KEY, registered_at, registered_by; as in `model list`.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filter: Vec<String>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceGetArgs {
    /// The instance, as in feature-store/eu-west-1-a1:7000.
    #[arg(value_name = "SERVICE/NODE:PORT")]
    pub(crate) key: ServiceKey,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceRegisterArgs {
    /// The service, as callers look it up.
    pub(crate) service: ServiceName,
    /// The node that hosts it: one whose agent is UP.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: NodeId,
    /// The port that it listens on.
    #[arg(long)]
    pub(crate) port: NonZeroU16,
    /// Host or IP address that callers connect to.
    #[arg(long, value_name = "HOST")]
    pub(crate) address: String,
    /// What it speaks: tcp, udp, http or grpc.
    #[arg(long, default_value = "tcp")]
    pub(crate) protocol: ServiceProtocol,
    /// A label, as KEY=VALUE; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) labels: Vec<(String, String)>,
    /// Only if the instance still is as it was at this revision.
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceDeregisterArgs {
    /// The instance, as in feature-store/eu-west-1-a1:7000.
    #[arg(value_name = "SERVICE/NODE:PORT")]
    pub(crate) key: ServiceKey,
    /// Only if the instance still is as it was at this revision.
    #[arg(long, value_name = "REVISION")]
    pub(crate) etag: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}
