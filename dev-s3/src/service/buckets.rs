//! Buckets come and go.

use s3s::{S3Response, dto::*, s3_error};

use super::{Answer, Service};
use crate::{meta::timestamp, receive::disk};

impl Service {
    pub(super) fn all_buckets(&self) -> Answer<ListBucketsOutput> {
        let buckets = self.store.buckets().into_iter().map(|bucket| Bucket {
            name: Some(bucket.name.clone()),
            creation_date: Some(timestamp(bucket.created_micros)),
            bucket_region: None,
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            ..Default::default()
        }))
    }

    pub(super) fn make_bucket(&self, name: &str) -> Answer<CreateBucketOutput> {
        if !self.store.create_bucket(name).map_err(disk)? {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        Ok(S3Response::new(CreateBucketOutput {
            location: Some(format!("/{name}")),
        }))
    }

    pub(super) fn drop_bucket(&self, name: &str) -> Answer<DeleteBucketOutput> {
        self.store.delete_bucket(name)?;
        Ok(S3Response::new(DeleteBucketOutput {}))
    }
}
