//! The requests of a channel, once for every kind of channel handle.

/// Puts every request of a channel on a handle: named as in pika and the specification, with the method's required
/// arguments; the rest are options of the request, and so is the way to continue.
#[doc(hidden)]
#[macro_export]
macro_rules! channel_requests {
    () => {
        /// Closes the channel [§1.5.2.5], behind everything that was called before.
        pub fn close(&self) -> $crate::Request<$crate::spec::channel::Close, Self> {
            $crate::Request::new(
                self,
                $crate::spec::channel::Close {
                    reply_code: 200,
                    reply_text: "Normal shutdown".into(),
                    class_id: 0,
                    method_id: 0,
                },
            )
        }

        /// Declares a queue, which is made unless it exists [§1.7.2.1]; with an empty name the broker makes one up.
        ///
        /// A named queue is durable, one that the broker names is exclusive, unless said otherwise: newer brokers refuse
        /// queues that are neither.
        pub fn queue_declare(
            &self,
            queue: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::queue::Declare, Self> {
            let queue = queue.into();
            let named = !queue.is_empty();
            $crate::Request::new(
                self,
                $crate::queue::Declare { queue, durable: named, exclusive: !named, ..Default::default() },
            )
        }

        /// Binds a queue to an exchange [§1.7.2.3], with the queue's name as the routing key unless another is given.
        pub fn queue_bind(
            &self,
            queue: impl Into<$crate::ShortString>,
            exchange: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::queue::Bind, Self> {
            let queue = queue.into();
            let routing_key = queue.clone();
            $crate::Request::new(
                self,
                $crate::queue::Bind { queue, exchange: exchange.into(), routing_key, ..Default::default() },
            )
        }

        /// Takes a binding back [§1.7.2.5]; a binding that does not exist is no error.
        pub fn queue_unbind(
            &self,
            queue: impl Into<$crate::ShortString>,
            exchange: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::queue::Unbind, Self> {
            let queue = queue.into();
            let routing_key = queue.clone();
            $crate::Request::new(
                self,
                $crate::queue::Unbind { queue, exchange: exchange.into(), routing_key, ..Default::default() },
            )
        }

        /// Drops the messages that are ready in a queue [§1.7.2.7]; those that are delivered and unacknowledged stay.
        pub fn queue_purge(
            &self,
            queue: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::queue::Purge, Self> {
            $crate::Request::new(self, $crate::queue::Purge { queue: queue.into(), ..Default::default() })
        }

        /// Deletes a queue [§1.7.2.9]; a queue that does not exist is no error.
        pub fn queue_delete(
            &self,
            queue: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::queue::Delete, Self> {
            $crate::Request::new(self, $crate::queue::Delete { queue: queue.into(), ..Default::default() })
        }

        /// Declares a direct exchange, which is made unless it exists [§1.6.2.1]; durable unless said otherwise.
        pub fn exchange_declare(
            &self,
            exchange: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::exchange::Declare, Self> {
            let exchange_type = "direct".into();
            $crate::Request::new(
                self,
                $crate::exchange::Declare {
                    exchange: exchange.into(),
                    exchange_type,
                    durable: true,
                    ..Default::default()
                },
            )
        }

        /// Deletes an exchange [§1.6.2.3]; an exchange that does not exist is no error.
        pub fn exchange_delete(
            &self,
            exchange: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::exchange::Delete, Self> {
            $crate::Request::new(self, $crate::exchange::Delete { exchange: exchange.into(), ..Default::default() })
        }

        /// Binds an exchange to another one (RabbitMQ): messages flow from `source` to `destination`.
        pub fn exchange_bind(
            &self,
            destination: impl Into<$crate::ShortString>,
            source: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::exchange::Bind, Self> {
            $crate::Request::new(
                self,
                $crate::exchange::Bind { destination: destination.into(), source: source.into(), ..Default::default() },
            )
        }

        /// Takes such a binding back (RabbitMQ).
        pub fn exchange_unbind(
            &self,
            destination: impl Into<$crate::ShortString>,
            source: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::exchange::Unbind, Self> {
            $crate::Request::new(
                self,
                $crate::exchange::Unbind {
                    destination: destination.into(),
                    source: source.into(),
                    ..Default::default()
                },
            )
        }

        /// Limits the unacknowledged messages of each consumer that is made from now on [§1.8.3.1]; 0 is no limit.
        pub fn basic_qos(&self, prefetch_count: u16) -> $crate::Request<$crate::basic::Qos, Self> {
            $crate::Request::new(self, $crate::basic::Qos { prefetch_count, ..Default::default() })
        }

        /// Ends a consumer [§1.8.3.5]: nothing reaches it once this has been called, and what was on its way is requeued.
        pub fn basic_cancel(
            &self,
            consumer_tag: impl Into<$crate::ShortString>,
        ) -> $crate::Request<$crate::basic::Cancel, Self> {
            $crate::Request::new(
                self,
                $crate::basic::Cancel { consumer_tag: consumer_tag.into(), ..Default::default() },
            )
        }

        /// Asks for one message [§1.8.3.10]; `None` if the queue is empty.
        pub fn basic_get(&self, queue: impl Into<$crate::ShortString>) -> $crate::Request<$crate::basic::Get, Self> {
            $crate::Request::new(self, $crate::basic::Get { queue: queue.into(), ..Default::default() })
        }

        /// Asks for everything unacknowledged again [§1.8.3.16]; requeued, which is all that RabbitMQ can do.
        pub fn basic_recover(&self) -> $crate::Request<$crate::basic::Recover, Self> {
            $crate::Request::new(self, $crate::basic::Recover { requeue: true })
        }

        /// Puts the channel into confirm mode (RabbitMQ): from now on each publish has an outcome, which
        /// [`basic_publish`](Self::basic_publish) tells.
        #[doc(alias = "confirm_delivery")]
        pub fn confirm_select(&self) -> $crate::Request<$crate::spec::confirm::Select, Self> {
            $crate::Request::new(self, $crate::spec::confirm::Select { nowait: false })
        }

        /// Begins transactions on this channel [§1.9.2.1].
        pub fn tx_select(&self) -> $crate::Request<$crate::tx::Select, Self> {
            $crate::Request::new(self, $crate::tx::Select {})
        }

        /// Commits what was published and acknowledged since [§1.9.2.3].
        pub fn tx_commit(&self) -> $crate::Request<$crate::tx::Commit, Self> {
            $crate::Request::new(self, $crate::tx::Commit {})
        }

        /// Takes back what was published and acknowledged since [§1.9.2.5].
        pub fn tx_rollback(&self) -> $crate::Request<$crate::tx::Rollback, Self> {
            $crate::Request::new(self, $crate::tx::Rollback {})
        }

        /// Asks the broker to pause or resume deliveries [§1.5.2.3]. RabbitMQ answers `active` only; a pause is refused
        /// here, because it would close the whole connection: use [`basic_qos`](Self::basic_qos).
        pub fn flow(&self, active: bool) -> $crate::Request<$crate::spec::channel::Flow, Self> {
            $crate::Request::new(self, $crate::spec::channel::Flow { active })
        }
    };
}
