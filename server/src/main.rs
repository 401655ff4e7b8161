//! `net_raid_server IP PORT DIR`: serves one directory as a brick, in the foreground.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use net_raid_proto::ids::BrickId;
use net_raid_server::brick::{Brick, BrickOptions};
use net_raid_server::disk::RealDisk;
use net_raid_server::session::{Context, SlowWork};
use net_raid_server::{listener, startup};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Tells that the machine was restarted.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Threads for requests that take long. More would only queue up at the disk.
const BLOCKING_THREADS: usize = 64;
/// A blocking thread is kept this long: fsyncs come in bursts, and a new thread costs 50 us.
const BLOCKING_KEPT: Duration = Duration::from_secs(60);

const EXAMPLE: &str = "\
Example:
  mkdir /srv/brick && net_raid_server 0.0.0.0 10001 /srv/brick

An empty directory becomes a member or a spare when a client's volume asks for it. A directory that
holds other files is never taken. Logs go to stderr; RUST_LOG sets what is logged (default: info).";

/// Serves one directory as a brick of net_raid volumes.
#[derive(Debug, Parser)]
#[command(name = "net_raid_server", version, after_help = EXAMPLE)]
struct Arguments {
    /// Address to listen on, such as 0.0.0.0 (all), 127.0.0.1 or ::1
    #[arg(value_parser = startup::parse_ip)]
    ip: IpAddr,
    /// TCP port to listen on; 0 takes any free one and logs it
    port: u16,
    /// Directory that holds the data
    dir: PathBuf,
    /// Form of the log
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    // Rust ignores SIGPIPE at start: a closed stderr or socket is an error, not the end.
    let arguments = match arguments(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if let Err(why) = start_log(arguments.log_format) {
        eprintln!("net_raid_server: {why}");
        return ExitCode::from(2);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("net_raid_server: {why}");
            ExitCode::from(1)
        }
    }
}

/// The arguments, or what to exit with after help or one line about what is wrong.
fn arguments(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, ExitCode> {
    Arguments::try_parse_from(words).map_err(|why| {
        if !why.use_stderr() {
            // Help and version were asked for.
            let _ = why.print();
            return ExitCode::SUCCESS;
        }
        eprintln!("net_raid_server: {}; see net_raid_server --help", one_line(&why.to_string()));
        ExitCode::from(2)
    })
}

/// The first paragraph of clap's several, in one line.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let told =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let told: Vec<&str> = told.filter(|line| !line.is_empty() && !line.starts_with("tip:")).collect();
    told.join(" ")
}

fn start_log(format: LogFormat) -> Result<(), String> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) => EnvFilter::try_new(&text)
            .map_err(|why| format!("RUST_LOG={text:?} is no log filter ({why}); use one such as info or debug"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    // A panic is one line of the log, like everything else.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let address = SocketAddr::new(arguments.ip, arguments.port);
    // First of all: this sets the umask, which must be done before there are threads.
    let brick = open_brick(&arguments.dir)?;
    let runtime = runtime().map_err(|why| format!("cannot start threads: {why}; raise the limit of processes"))?;
    let (signals, listener) = {
        let _guard = runtime.enter();
        // In this order: who can connect can expect that a signal ends the server cleanly.
        let signals = Signals::catch().map_err(|why| format!("cannot handle signals: {why}"))?;
        (signals, listener::listen(address).map_err(|why| startup::listen_failed(address, &why))?)
    };
    let started = Instant::now();
    let context = Arc::new(Context::new(brick, SlowWork::Threads, move || started.elapsed().as_millis() as u64));
    let served = runtime.block_on(serve(listener, signals, context.clone(), &arguments.dir));
    // What is stuck in the kernel is left behind; what was acknowledged does not depend on it.
    runtime.shutdown_background();
    let closed = context.service.close();
    served?;
    closed.map_err(|why| format!("cannot close {}: {why}; check the disk", arguments.dir.display()))?;
    tracing::info!("stopped");
    Ok(())
}

/// Bricks share small machines with other work, and one client keeps few threads busy.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_KEPT)
        .thread_name("net_raid")
        .enable_all()
        .build()
}

fn open_brick(directory: &Path) -> Result<Brick<RealDisk>, String> {
    let disk = startup::open_disk(directory).map_err(|why| why.to_string())?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|why| format!("cannot get random numbers: {why}; check /dev/urandom"))?;
    let boot =
        std::fs::read_to_string(BOOT_ID).map_err(|why| format!("cannot read {BOOT_ID}: {why}; is /proc mounted?"))?;
    let options = BrickOptions { ownership: disk.ownership(), brick: BrickId(id), boot: boot.trim().into() };
    let refused = |why: &dyn std::fmt::Display| format!("cannot serve {}: {why}", directory.display());
    let brick = Brick::open(disk, options).map_err(|why| refused(&why))?;
    match brick.unusable() {
        None => Ok(brick),
        Some(why) => Err(refused(&format!("{why}; name an empty directory, or the one that was served before"))),
    }
}

/// Serves until a signal says to end.
async fn serve(
    listener: tokio::net::TcpListener,
    mut signals: Signals,
    context: Arc<Context<Brick<RealDisk>>>,
    directory: &Path,
) -> Result<(), String> {
    let address = listener.local_addr().map_err(|why| format!("cannot listen: {why}"))?;
    tracing::info!(%address, directory = %directory.display(), "ready");
    let stopped = async {
        let signal = signals.first().await;
        tracing::info!(signal, "stopping");
    };
    let served = listener::serve(listener, context, stopped).await;
    served.map_err(|why| format!("cannot end cleanly: {why}; clients will repeat them"))
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they are awaited; must be called within a runtime.
    fn catch() -> std::io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn first(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
