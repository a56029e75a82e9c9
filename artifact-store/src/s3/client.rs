//! The SDK's client, set up so that it does nothing on its own.

use std::{fmt, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use crate::Deadlines;

/// How long a connection may take to be made. A store that is up answers within one round trip.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Where a bucket is and how to get in.
#[derive(Clone)]
pub struct S3Config {
    /// How errors and logs call the store.
    pub name: String,
    /// `http://127.0.0.1:7465` or `https://s3.us-west-2.amazonaws.com`.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// The public half of the key pair.
    pub access_key: String,
    /// The secret half; never printed.
    pub secret_key: String,
    /// How long calls may take.
    pub deadlines: Deadlines,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            endpoint,
            region,
            bucket,
            access_key,
            deadlines,
            ..
        } = self;
        f.debug_struct("S3Config")
            .field("name", name)
            .field("endpoint", endpoint)
            .field("region", region)
            .field("bucket", bucket)
            .field("access_key", access_key)
            .field("deadlines", deadlines)
            .finish_non_exhaustive()
    }
}

pub(super) fn build(config: &S3Config) -> Client {
    let http = Builder::new();
    // Root certificates are read only where TLS is spoken.
    let http = if config.endpoint.starts_with("http://") {
        http.build_http()
    } else {
        http.tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https()
    };
    let credentials = Credentials::new(&config.access_key, &config.secret_key, None, None, "static");
    let settings = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(&config.endpoint)
        .region(Region::new(config.region.clone()))
        .credentials_provider(credentials)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_MAX).build())
        // Idle streams are bounded by our own deadlines, whole bodies by our own SHA-256.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(settings)
}
