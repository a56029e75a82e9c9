//! Scripts, tables and properties of the rules; bytes of every shape.

mod bytes;
mod chained;
mod damage;
mod elections;
mod epochs;
mod expects;
mod features;
mod fitness;
mod frames;
mod integrity;
mod language;
mod lineage;
mod members;
mod pages;
mod properties;
mod rebinds;
mod recovery;
mod refusals;
mod regions;
mod requests;
mod rules;
mod samples;
mod scripts;
mod time;
mod world;
