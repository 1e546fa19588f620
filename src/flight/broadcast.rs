//! Value that many tasks wait for. Once sent it can be replaced, but not taken back.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use crate::sync::{Mutex, lock};

/// Broadcast of one value. It allocates nothing until there is a reader.
pub(crate) struct Broadcast<T> {
    channel: Mutex<Channel<T>>,
}

struct Channel<T> {
    value: Option<T>,
    waiting: BTreeMap<u64, Waker>,
    next_reader: u64,
}

impl<T: Clone> Broadcast<T> {
    pub(crate) fn new() -> Self {
        let channel = Channel { value: None, waiting: BTreeMap::new(), next_reader: 0 };
        Self { channel: Mutex::new(channel) }
    }

    /// Sends a value to all readers, later ones included.
    pub(crate) fn send(&self, value: T) {
        let mut channel = lock(&self.channel);
        let earlier = channel.value.replace(value);
        let waiting = std::mem::take(&mut channel.waiting);
        drop(channel);
        // Woken and dropped without the lock: either may run an executor's code, which may read.
        waiting.into_values().for_each(Waker::wake);
        drop(earlier);
    }

    /// Waits until there is a value.
    pub(crate) fn read(&self) -> Receiving<'_, T> {
        Receiving { broadcast: self, id: None }
    }
}

/// Future of the value. Dropping it removes its waker.
pub(crate) struct Receiving<'a, T> {
    broadcast: &'a Broadcast<T>,
    /// Number of its waker; `None` before the first poll.
    id: Option<u64>,
}

impl<T: Clone> Future for Receiving<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut channel = lock(&self.broadcast.channel);
        if let Some(value) = &channel.value {
            return Poll::Ready(value.clone());
        }
        let id = self.id.unwrap_or(channel.next_reader);
        channel.next_reader = channel.next_reader.max(id + 1);
        let earlier = channel.waiting.insert(id, cx.waker().clone());
        drop(channel);
        drop(earlier);
        self.id = Some(id);
        Poll::Pending
    }
}

impl<T> Drop for Receiving<'_, T> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = lock(&self.broadcast.channel).waiting.remove(&id);
            // Without the lock, as above.
            drop(waker);
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::{
        pin::pin,
        sync::{Arc, mpsc},
        task::Wake,
        time::Duration,
    };

    use super::*;

    /// Waker that reads at once, as an executor may.
    struct Reader(Broadcast<u8>, mpsc::Sender<Poll<u8>>);

    impl Reader {
        fn read(self: &Arc<Self>, waker: &Waker) {
            let polled = pin!(self.0.read()).poll(&mut Context::from_waker(waker));
            self.1.send(polled).expect("the test listens");
        }
    }

    impl Wake for Reader {
        fn wake(self: Arc<Self>) {
            self.read(Waker::noop());
        }
    }

    /// Waker that does nothing.
    struct Idle;

    impl Wake for Idle {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn a_reader_that_is_dropped_leaves_no_waker() {
        let (broadcast, idle) = (Broadcast::<u8>::new(), Arc::new(Idle));
        let waker = Waker::from(Arc::clone(&idle));
        let mut reading = broadcast.read();
        for _ in 0..2 {
            assert!(pin!(&mut reading).poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(Arc::strong_count(&idle), 3, "one of them is the waiting reader's");
        }
        drop(reading);
        assert_eq!(Arc::strong_count(&idle), 2);
    }

    #[test]
    fn a_reader_is_woken_and_may_read_at_once() {
        let (sender, polled) = mpsc::channel();
        let reader = Arc::new(Reader(Broadcast::new(), sender));
        std::thread::spawn(move || {
            let mut reading = reader.0.read();
            let waker = Waker::from(Arc::clone(&reader));
            assert!(pin!(&mut reading).poll(&mut Context::from_waker(&waker)).is_pending());
            reader.0.send(1);
        });
        assert_eq!(polled.recv_timeout(Duration::from_secs(10)), Ok(Poll::Ready(1)));
    }
}
