//! Time of one request to each sample model, through the actor: `cargo run --release -p inference --features candle
//! --example latency -- models`. Prints the median and the 95th percentile in microseconds, and the threads there are.

#![expect(clippy::print_stdout, reason = "this program's output is its purpose")]

use inference::{ActorOptions, GenerateRequest, InferRequest, LoadOptions, ModelActor, load};
use std::path::Path;
use std::time::{Duration, Instant};

/// Requests of each kind; the first tenth only warms.
const ROUNDS: usize = 300;

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.drain(..times.len() / 10);
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_micros();
    println!("{name:<28} median {:>6} us   p95 {:>6} us", at(50), at(95));
}

fn actor(models: &Path, name: &str) -> Result<ModelActor, Box<dyn std::error::Error>> {
    let engine = load(&models.join(name), &LoadOptions::default())?;
    Ok(ModelActor::start(
        engine,
        &ActorOptions {
            name: name.to_owned(),
            ..ActorOptions::default()
        },
    )?)
}

async fn time_infer(
    actor: &ModelActor,
    request: &InferRequest,
) -> Result<Vec<Duration>, inference::InferError> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        actor.infer(request.clone(), deadline()).await?;
        times.push(started.elapsed());
    }
    Ok(times)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let models = std::env::args().nth(1).unwrap_or_else(|| "models".to_owned());
    let models = Path::new(&models);
    let digits = actor(models, "digits")?;
    report(
        "digits, one image",
        time_infer(&digits, &InferRequest::images(vec![3.0; 64])).await?,
    );
    let embedder = actor(models, "embedder")?;
    let text = "could you reboot our machine right away?".to_owned();
    report(
        "embedder, one sentence",
        time_infer(&embedder, &InferRequest::texts(vec![text])).await?,
    );
    let tinylm = actor(models, "tinylm")?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        tinylm
            .generate(GenerateRequest::greedy("Once upon a time", 32), deadline())?
            .collect()
            .await?;
        times.push(started.elapsed());
    }
    report("tinylm, 32 tokens", times);
    let tasks = std::fs::read_dir("/proc/self/task")?.flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    println!(
        "threads: {}",
        names
            .map(|name| name.trim().to_owned())
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(())
}
