//! What writes and reads for a connection: redis-rs's driver, in a task that lets a crowd of commands gather.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
};

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisResult, aio::MultiplexedConnection};

use super::{pulse::Pulse, socket};

/// How many commands may be on their way to the driver. Others wait for a place, which costs more than the place.
const QUEUE: usize = 1024;

/// Connects to the server of `client`. Each command has to hold the pulse while it is under way, and whoever keeps the
/// connection as well.
///
/// TLS and Unix sockets are left to redis-rs whole, which does not give their drivers away.
pub(super) async fn connect(client: &Client) -> RedisResult<(Arc<Pulse>, MultiplexedConnection)> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE);
    let pulse = Arc::new(Pulse::new());
    let info = client.get_connection_info();
    let ConnectionAddr::Tcp(host, port) = info.addr() else {
        return Ok((pulse, client.get_multiplexed_async_connection_with_config(&config).await?));
    };
    let stream = socket::open(host, *port, info.tcp_settings()).await?;
    let (connection, driver) = MultiplexedConnection::new_with_config(info.redis_settings(), stream, config).await?;
    tokio::spawn(drive(driver, Arc::downgrade(&pulse)));
    Ok((pulse, connection))
}

/// Runs `driver` until nobody holds `pulse` any more.
///
/// A worker of tokio runs a task that has been woken next, before all that wait already. So each command of a crowd would
/// be written by itself, and most of what it costs is the system call. While more than one command is under way the
/// driver gets to the end of the queue instead, once, and writes what has come together by then. Not for a single command:
/// another worker would wake to take up what waits.
async fn drive(driver: impl Future<Output = ()>, pulse: Weak<Pulse>) {
    let mut driver = pin!(driver);
    let mut has_made_way = false;
    poll_fn(|cx| {
        let commands = match pulse.strong_count() {
            0 => return Poll::Ready(()),
            held => held - 1,
        };
        has_made_way = commands > 1 && !has_made_way;
        if has_made_way {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        driver.as_mut().poll(cx)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use tokio::{runtime::Builder, sync::Notify, task::yield_now};

    use super::*;

    /// Who has worked, in order, when a driver and then somebody else are woken while so many commands are under way.
    async fn order(commands: usize) -> Vec<&'static str> {
        let log = Arc::new(Mutex::new(Vec::new()));
        let work = |name| {
            let log = Arc::clone(&log);
            move || log.lock().unwrap_or_else(PoisonError::into_inner).push(name)
        };
        let (called, pulse) = (Arc::new(Notify::new()), Arc::new(Pulse::new()));
        let held = vec![Arc::clone(&pulse); commands];
        let (calls, write) = (Arc::clone(&called), work("driver"));
        let driver = async move {
            loop {
                calls.notified().await;
                write();
            }
        };
        let driver = tokio::spawn(drive(driver, Arc::downgrade(&pulse)));
        yield_now().await; // and the driver waits for a call
        let other = work("other");
        let other = tokio::spawn(async move { other() });
        called.notify_one();
        other.await.unwrap();
        let settle = async || {
            for _ in 0..100 {
                yield_now().await;
            }
        };
        settle().await;
        drop((held, pulse));
        called.notify_one();
        settle().await;
        assert!(driver.is_finished(), "a driver ends when nobody holds its pulse");
        Arc::into_inner(log).unwrap().into_inner().unwrap()
    }

    /// On one worker, so that nobody else takes up what waits.
    fn on_a_worker<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        runtime.block_on(async { tokio::spawn(work).await.unwrap() })
    }

    #[test]
    fn the_driver_of_a_crowd_lets_those_go_first_who_wait_already() {
        assert_eq!(on_a_worker(order(2)), ["other", "driver"]);
    }

    #[test]
    fn a_single_command_is_written_at_once() {
        assert_eq!(on_a_worker(order(1)), ["driver", "other"]);
    }
}
