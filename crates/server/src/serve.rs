//! The life of the serving process: open, listen, serve, stop. Each step is one line here and a module elsewhere.

use std::sync::Arc;
use std::time::Duration;

use leveret_broker::Broker;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::background::Background;
use crate::clock::Clock;
use crate::config::Config;
use crate::descriptors::Descriptors;
use crate::error::{ServeError, StartError};
use crate::listener::{Bound, Listener, Protocol};
use crate::log::Log;
use crate::lookout::Lookout;
use crate::management::{ManagementHost, ManagementThread};
use crate::memory::Activity;
#[cfg(feature = "otel")]
use crate::otlp;
use crate::readiness::{self, ReadyDraft};
use crate::shared::Shared;
use crate::shutdown::{EarlySignals, Signals};
use crate::store::{DiskWatch, OpenStore, StoreWatch};
use crate::{args, deadlines, definitions, management, memory, pager, steps};

/// How long a stopping broker waits for its clients to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long the runtime may take to drop its tasks.
const RUNTIME_STOP: Duration = Duration::from_secs(1);

/// After so many turns a worker that never sleeps asks which sockets have something. Each may last a millisecond.
const EVENT_INTERVAL: u32 = 16;

/// Runs the broker until a signal ends it or it fails. After a failure the process is to exit at once.
pub(crate) fn serve(config: Config) -> Result<(), ServeError> {
    #[cfg(not(feature = "otel"))]
    if config.otlp.is_some() {
        let text = "--otlp-endpoint: this binary sends no spans; build it with --features otel";
        return Err(StartError::Arguments(text.to_owned()).into());
    }
    let clock = Clock::start();
    let _log =
        Log::start(&config.log_filter, config.log_format, clock).map_err(StartError::System)?;
    args::warn_of_misspelt_variables();
    let signals = EarlySignals::install().map_err(StartError::System)?;
    memory::set_up();

    let amqp = config.listeners.iter();
    let amqp = amqp.map(|address| Bound::bind(*address, Protocol::Amqp));
    let mut bound = amqp.collect::<Result<Vec<_>, _>>()?;
    bound.extend(management::bind(&config.management, Protocol::Http)?);
    bound.extend(management::bind(&config.prometheus, Protocol::Prometheus)?);
    let store = OpenStore::open(&config.storage)?;
    let disk = DiskWatch::new(&config.storage, &store)?;
    if let Some(path) = &config.ready_file {
        readiness::claim(path)?;
    }
    let broker = Broker::open(config.broker, store.handle(), clock.now());
    let broker = broker.map_err(|error| StartError::Broker(error.to_string()))?;
    if let Some(path) = &config.definitions {
        definitions::import(path, &broker, &store.handle(), clock.now())
            .map_err(StartError::from)?;
    }
    // What a recovery needed, this thread will not need again.
    memory::collect();
    let shared = Arc::new(Shared {
        broker,
        clock,
        connections: Arc::default(),
        descriptors: Descriptors::new(clock),
        lookout: Lookout::new(config.worker_threads).map_err(StartError::System)?,
    });

    let activity = Arc::default();
    let runtime = runtime(config.worker_threads, &activity, &shared.lookout);
    let runtime = runtime.map_err(StartError::System)?;
    let lookout = shared.lookout.start(runtime.handle().clone());
    lookout.map_err(StartError::System)?;
    runtime.spawn(memory::give_back(
        activity,
        config.worker_threads,
        store.handle(),
    ));
    memory::return_large_bodies();
    let api = Arc::<ManagementThread>::default();
    let (pager, pager_panic) = pager::start(&shared.broker, clock).map_err(StartError::System)?;
    let (deadlines, deadlines_panic) =
        deadlines::start(&shared.broker, clock).map_err(StartError::System)?;
    let threads = [deadlines, pager];
    let panics = Panics {
        pager: pager_panic,
        deadlines: deadlines_panic,
    };
    let served = runtime.block_on(async {
        let listeners = bound
            .into_iter()
            .flatten()
            .map(Bound::listen)
            .collect::<Result<Vec<_>, _>>()?;
        #[cfg(feature = "otel")]
        if let Some(endpoint) = config.otlp {
            tokio::spawn(otlp::send_spans(endpoint, Arc::clone(&shared.broker)));
        }
        let signals = signals.serve().map_err(StartError::System)?;
        let hangups =
            definitions::on_hangup(config.definitions, Arc::clone(&shared), store.handle());
        tokio::spawn(hangups.map_err(StartError::System)?);
        let ready_file = config
            .ready_file
            .as_deref()
            .map(|path| ReadyDraft::write(path, &listeners))
            .transpose()?;
        readiness::announce(&listeners);
        shared.descriptors.tell();
        listeners.iter().for_each(Listener::tell);
        let ready_file = ready_file.map(ReadyDraft::publish).transpose()?;
        let management = ManagementHost::new(&shared, &listeners, disk, Arc::clone(&api));
        let served = until_stopped(
            &shared,
            management,
            listeners,
            signals,
            store.handle(),
            panics,
        )
        .await;
        drop(ready_file);
        served
    });

    match &served {
        Ok(()) => {
            stop((runtime, &api), threads, shared, store);
            steps::report();
            tracing::info!("stopped");
        }
        Err(ServeError::Start(_)) => stop((runtime, &api), threads, shared, store),
        Err(_) => abandon((runtime, &api), shared, store),
    }
    served
}

fn runtime(
    worker_threads: usize,
    activity: &Arc<Activity>,
    lookout: &Arc<Lookout>,
) -> std::io::Result<Runtime> {
    let activity = Arc::clone(activity);
    let (sleeps, wakes) = (Arc::clone(lookout), Arc::clone(lookout));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads)
        .thread_name("leveret-worker")
        .event_interval(EVENT_INTERVAL)
        .on_thread_park(move || sleeps.begin_sleep())
        .on_thread_unpark(move || {
            wakes.end_sleep();
            activity.note();
        })
        .enable_all()
        .build()
}

/// Tell when a thread has panicked.
struct Panics {
    pager: oneshot::Receiver<()>,
    deadlines: oneshot::Receiver<()>,
}

/// Accepts and serves; returns when a signal came and the clients have been sent away, or when something failed.
async fn until_stopped(
    shared: &Arc<Shared>,
    management: ManagementHost,
    listeners: Vec<Listener>,
    mut signals: Signals,
    store: leveret_message::Store,
    panics: Panics,
) -> Result<(), ServeError> {
    let mut tasks = JoinSet::new();
    let mut store = tokio::spawn(StoreWatch::new(store, Arc::clone(shared)));
    for listener in listeners {
        match listener.protocol() {
            Protocol::Amqp => tasks.spawn(listener.accept(Arc::clone(shared))),
            Protocol::Http | Protocol::Prometheus => {
                tasks.spawn(management.clone().accept(listener))
            }
        };
    }
    drop(management);
    let stopped = async {
        let signal = signals.requested().await;
        tracing::info!(signal, connections = shared.connections.count(), "stopping");
    };
    tokio::select! {
        () = stopped => {}
        failed = &mut store => return Err(store_failed(failed)),
        Some(_) = tasks.join_next() => return Err(ServeError::Internal("a task of the server".to_owned())),
        Ok(()) = panics.deadlines => return Err(ServeError::Internal("the deadlines".to_owned())),
        Ok(()) = panics.pager => return Err(ServeError::Internal("the pager".to_owned())),
    }
    tasks.shutdown().await;
    shared.connections.shut_down();
    tokio::select! {
        () = shared.connections.emptied() => {}
        () = tokio::time::sleep(GOODBYE) => {
            tracing::warn!(connections = shared.connections.count(), "clients did not answer connection.close");
        }
        failed = &mut store => return Err(store_failed(failed)),
    }
    store.abort();
    Ok(())
}

fn store_failed(watched: Result<String, tokio::task::JoinError>) -> ServeError {
    match watched {
        Ok(reason) => ServeError::StoreFailed(reason),
        Err(_) => ServeError::Internal("the watch over the store".to_owned()),
    }
}

/// Ends what runs, in the order in which it depends on each other, and closes the store.
fn stop(
    (runtime, api): (Runtime, &ManagementThread),
    threads: [Background; 2],
    shared: Arc<Shared>,
    store: OpenStore,
) {
    api.stop(RUNTIME_STOP);
    runtime.shutdown_timeout(RUNTIME_STOP);
    threads.into_iter().for_each(Background::stop);
    drop(shared);
    store.close();
}

/// After a failure: what is on disk is what was promised, so nothing more is committed, and nobody is waited for.
fn abandon((runtime, api): (Runtime, &ManagementThread), shared: Arc<Shared>, store: OpenStore) {
    std::mem::forget((shared, store));
    api.abandon();
    runtime.shutdown_background();
}
