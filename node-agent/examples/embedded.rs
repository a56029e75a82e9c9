//! A service of one's own with an agent inside: it reads an agent's config, starts the agent, prints who answers for
//! which model, asks one of them without HTTP, and ends with ctrl-c.
//!
//! `cargo run -p node-agent --example embedded -- agent.toml`

use std::{path::Path, process::ExitCode, time::Duration};

use inference::InferRequest;
use node_agent::{Agent, AgentConfig};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(config) = std::env::args().nth(1) else {
        eprintln!("usage: embedded CONFIG");
        return ExitCode::from(2);
    };
    match serve(Path::new(&config)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embedded: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let agent = Agent::builder(AgentConfig::load(config)?).start().await?;
    eprintln!(
        "{} answers on http://{}",
        agent.holder(),
        agent.addresses().inference
    );

    // The program's own work goes here. This one asks every model once, as soon as the node is ready.
    let serving = agent.serving().clone();
    let mut board = agent.board();
    let asking = async move {
        if board.wait_for(|board| board.ready.is_ok()).await.is_err() {
            return;
        }
        for (key, signature, active) in serving.describe() {
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            let Ok(loaded) = serving.resolve(key.model.as_str(), Some(key.version)) else {
                continue;
            };
            let answer = loaded.infer(InferRequest::sample(&signature), deadline).await;
            eprintln!(
                "{key} ({}, active: {active}): {:?}",
                signature.family,
                answer.map(|o| o.usage)
            );
        }
    };

    let stopped = async {
        asking.await;
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("no signals: {error}");
        }
    };
    agent.run_until(stopped).await?;
    Ok(())
}
