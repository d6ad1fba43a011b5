//! Every method of AMQP 0-9-1 and of RabbitMQ's extensions, in one table to be read with the specification beside it.
//!
//! One entry is a method: its name, its struct, its number, the methods that answer it, `content` where a header and a
//! body follow, and its fields in the order in which they are on the wire. A leading `_` is the reserved `ticket`, sent
//! as 0.
//!
//! ```text
//! "declare" Declare = 10 -> DeclareOk {        name, struct, number, reply; content where a header and a body follow
//!     _: u16,                                  reserved
//!     queue: ShortString,                      a field
//!     passive: bool .passive,                  a field that a request has an option for, called so
//!     durable: bool .durable = …,              such a field whose default is not 0, false or empty
//! } request {
//!     fn queue_declare(queue: ShortString)     what a handle offers, with the fields that the method cannot do without
//!         checked by has_a_name_or_a_reply     what has to hold of the method, in api/requests.rs
//! }
//! ```
//!
//! From the table come the structs, the enums and their codec (wire/spec.rs), and the requests, their options and the
//! functions of the handles that make them (api/requests.rs). A new method or option is one entry here.

/// Hands the table to the macro `$then`, after what else that macro is to know.
#[doc(hidden)]
#[macro_export]
macro_rules! every_method {
([$($then:tt)*] $($more:tt)*) => { $($then)*! { $($more)*
    /// Login, limits and the end of a connection [§1.4].
    connection Connection 10 {
        /// The broker says what it is, and which logins it offers.
        "start" Start = 10 -> StartOk {
            /// The protocol's major version: 0.
            version_major: u8,
            /// The protocol's minor version: 9.
            version_minor: u8,
            /// What the broker is, and which extensions it has.
            server_properties: Table,
            /// The SASL mechanisms that the broker offers, separated by spaces.
            mechanisms: LongString,
            /// The languages that the broker offers, separated by spaces.
            locales: LongString,
        }

        /// Says what the client is, and logs in.
        "start-ok" StartOk = 11 {
            /// What the client is, and which of RabbitMQ's extensions it understands.
            client_properties: Table,
            /// The SASL mechanism that the client chose.
            mechanism: ShortString,
            /// The SASL mechanism's answer.
            response: Secret,
            /// The language of reply texts.
            locale: ShortString,
        }

        /// The broker asks for another round of the login.
        "secure" Secure = 20 -> SecureOk {
            /// The SASL mechanism's question.
            challenge: LongString,
        }

        /// Answers such a round.
        "secure-ok" SecureOk = 21 {
            /// The SASL mechanism's answer.
            response: Secret,
        }

        /// The broker has accepted the login, and proposes limits.
        "tune" Tune = 30 -> TuneOk {
            /// The highest channel number; 0 stands for no limit.
            channel_max: u16,
            /// Octets in the largest frame, envelope included; 0 stands for no limit.
            frame_max: u32,
            /// Seconds between heartbeats; 0 stands for none.
            heartbeat: u16,
        }

        /// Says the limits that hold from now on.
        "tune-ok" TuneOk = 31 {
            /// The highest channel number; 0 stands for no limit.
            channel_max: u16,
            /// Octets in the largest frame, envelope included; 0 stands for no limit.
            frame_max: u32,
            /// Seconds between heartbeats; 0 stands for none.
            heartbeat: u16,
        }

        /// Enters a virtual host.
        "open" Open = 40 -> OpenOk {
            /// The virtual host's name; most often `/`.
            virtual_host: ShortString,
            /// Reserved.
            capabilities: ShortString,
            /// Reserved.
            insist: bool,
        }

        /// The connection can be used.
        "open-ok" OpenOk = 41 {
            /// Reserved.
            known_hosts: ShortString,
        }

        /// Ends the connection, and says why.
        "close" Close = 50 -> CloseOk {
            /// Reason as a number: one of [`reply_code`](crate::wire::spec::reply_code).
            reply_code: u16,
            /// Human-readable reason.
            reply_text: ShortString,
            /// The class of the method that was the cause; 0 if none was.
            class_id: u16,
            /// The method that was the cause; 0 if none was.
            method_id: u16,
        }

        /// Confirms the end: only the end of the stream follows.
        "close-ok" CloseOk = 51 { }

        /// RabbitMQ: the broker lacks memory or disk and has stopped reading publishes.
        "blocked" Blocked = 60 {
            /// Human-readable reason.
            reason: ShortString,
        }

        /// RabbitMQ: the broker reads publishes again.
        "unblocked" Unblocked = 61 { }

        /// RabbitMQ: replaces a token before it expires.
        "update-secret" UpdateSecret = 70 -> UpdateSecretOk {
            /// The token that replaces the one of the login.
            new_secret: Secret,
            /// Human-readable reason.
            reason: ShortString,
        } request {
            /// Replaces the secret of the credentials before it expires (RabbitMQ; OAuth 2 for example).
            fn update_secret(new_secret: Secret, reason: ShortString)
        }

        /// RabbitMQ: confirms that the new token is in use.
        "update-secret-ok" UpdateSecretOk = 71 { }
    }
    /// The life of a channel [§1.5].
    channel Channel 20 {
        /// Opens the channel on whose number it is sent.
        "open" Open = 10 -> OpenOk {
            /// Reserved.
            out_of_band: ShortString,
        }

        /// The channel can be used.
        "open-ok" OpenOk = 11 {
            /// Reserved.
            channel_id: LongString,
        }

        /// Asks the peer to pause or resume content. RabbitMQ closes the connection with 540 if asked to pause.
        "flow" Flow = 20 -> FlowOk {
            /// Whether content may be sent.
            active: bool,
        } request {
            /// Asks the broker to pause or resume deliveries [§1.5.2.3]. RabbitMQ answers `active` only; a pause is
            /// refused
            /// here, because it would close the whole connection: use [`basic_qos`](Self::basic_qos).
            fn flow(active: bool) checked by is_active
        }

        /// Confirms that content pauses or resumes.
        "flow-ok" FlowOk = 21 {
            /// Whether content may be sent.
            active: bool,
        }

        /// Ends the channel, and says why.
        "close" Close = 40 -> CloseOk {
            /// Reason as a number: one of [`reply_code`](crate::wire::spec::reply_code).
            reply_code: u16 .reply_code = 200,
            /// Human-readable reason.
            reply_text: ShortString .reply_text = "Normal shutdown".into(),
            /// The class of the method that was the cause; 0 if none was.
            class_id: u16,
            /// The method that was the cause; 0 if none was.
            method_id: u16,
        } request {
            /// Closes the channel [§1.5.2.5], after everything that was called before.
            fn close()
        }

        /// Confirms the end: the channel's number may be used again.
        "close-ok" CloseOk = 41 { }
    }
    /// Obsolete: access tickets of AMQP 0-8, which RabbitMQ still answers but does not check.
    access Access 30 {
        /// Obsolete: asks for a ticket.
        "request" Request = 10 -> RequestOk {
            /// Reserved.
            realm: ShortString,
            /// Reserved.
            exclusive: bool,
            /// Reserved.
            passive: bool,
            /// Reserved.
            active: bool,
            /// Reserved.
            write: bool,
            /// Reserved.
            read: bool,
        }

        /// Obsolete: the ticket.
        "request-ok" RequestOk = 11 {
            /// Reserved.
            ticket: u16,
        }
    }
    /// Exchanges, which route messages [§1.6].
    exchange Exchange 40 {
        /// Creates an exchange, or confirms that it exists.
        "declare" Declare = 10 -> DeclareOk {
            _: u16,
            /// The exchange's name.
            exchange: ShortString,
            /// How it routes: `direct`, `fanout`, `topic`, `headers`, or a plugin's type. AMQP calls it `type`.
            exchange_type: ShortString .exchange_type = "direct".into(),
            /// Whether only to check that it exists; if it does not, the channel is closed with 404.
            passive: bool .passive,
            /// Whether it survives a restart of the broker.
            durable: bool .durable = true,
            /// Whether it is deleted with its last binding.
            auto_delete: bool .auto_delete,
            /// Whether only other exchanges may publish to it.
            internal: bool .internal,
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
            /// Arguments of the broker's or of a plugin's.
            arguments: Table .arguments,
        } request {
            /// Declares a direct exchange [§1.6.2.1]: creates it unless it exists; durable unless said otherwise.
            #[doc(alias = "ExchangeDeclareOptions")]
            fn exchange_declare(exchange: ShortString)
        }

        /// Confirms that the exchange exists.
        "declare-ok" DeclareOk = 11 { }

        /// Deletes an exchange; one that does not exist is no error.
        "delete" Delete = 20 -> DeleteOk {
            _: u16,
            /// The exchange's name.
            exchange: ShortString,
            /// Whether to refuse with 406, which closes the channel, where something is bound to it.
            if_unused: bool .if_unused,
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
        } request {
            /// Deletes an exchange [§1.6.2.3]; an exchange that does not exist is no error.
            fn exchange_delete(exchange: ShortString)
        }

        /// Confirms that the exchange is deleted.
        "delete-ok" DeleteOk = 21 { }

        /// RabbitMQ: binds an exchange to another one.
        "bind" Bind = 30 -> BindOk {
            _: u16,
            /// The exchange that receives.
            destination: ShortString,
            /// The exchange that is received from.
            source: ShortString,
            /// The key that the exchange routes by; any octets.
            routing_key: ShortString .routing_key,
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
            /// Arguments for the exchange's type.
            arguments: Table .arguments,
        } request {
            /// Binds an exchange to another one (RabbitMQ): messages flow from `source` to `destination`.
            fn exchange_bind(destination: ShortString, source: ShortString)
        }

        /// RabbitMQ: confirms the binding.
        "bind-ok" BindOk = 31 { }

        /// RabbitMQ: removes exactly the binding that is described.
        "unbind" Unbind = 40 -> UnbindOk {
            _: u16,
            /// The exchange that receives.
            destination: ShortString,
            /// The exchange that is received from.
            source: ShortString,
            /// The key that the exchange routes by; any octets.
            routing_key: ShortString .routing_key,
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
            /// The arguments that it was bound with.
            arguments: Table .arguments,
        } request {
            /// Removes such a binding (RabbitMQ).
            fn exchange_unbind(destination: ShortString, source: ShortString)
        }

        /// RabbitMQ: confirms that the binding is removed. Its number does not follow the pattern.
        "unbind-ok" UnbindOk = 51 { }
    }
    /// Queues, which keep messages [§1.7].
    queue Queue 50 {
        /// Creates a queue, or confirms that it exists.
        "declare" Declare = 10 -> DeclareOk {
            _: u16,
            /// The queue's name; empty lets the broker choose one.
            queue: ShortString,
            /// Whether only to check that it exists; if it does not, the channel is closed with 404.
            passive: bool .passive,
            /// Whether it survives a restart of the broker.
            durable: bool .durable = !queue.is_empty(),
            /// Whether only this connection may use it; it is deleted with the connection.
            exclusive: bool .exclusive = queue.is_empty(),
            /// Whether it is deleted with its last consumer.
            auto_delete: bool .auto_delete,
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
            /// `x-queue-type`, `x-expires` and so on.
            arguments: Table .arguments,
        } request {
            /// Declares a queue [§1.7.2.1]: creates it unless it exists; with an empty name the broker chooses one.
            ///
            /// A named queue is durable, one that the broker names is exclusive, unless said otherwise: newer brokers
            /// refuse
            /// queues that are neither.
            #[doc(alias = "QueueDeclareOptions")]
            fn queue_declare(queue: ShortString) checked by has_a_name_or_a_reply
        }

        /// Confirms that the queue exists, with its name and what it holds.
        "declare-ok" DeclareOk = 11 {
            /// The queue's name, chosen by the broker if none was given.
            queue: ShortString,
            /// How many messages are ready for delivery.
            message_count: u32,
            /// How many consumers the queue has.
            consumer_count: u32,
        }

        /// Binds a queue to an exchange.
        "bind" Bind = 20 -> BindOk {
            _: u16,
            /// The queue's name; empty means the queue that was declared last on this channel.
            queue: ShortString,
            /// The exchange's name; empty is the default one, which routes to the queue named by the routing key.
            exchange: ShortString,
            /// The key that the exchange routes by; any octets.
            routing_key: ShortString .routing_key = queue.clone(),
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
            /// Arguments for the exchange's type.
            arguments: Table .arguments,
        } request {
            /// Binds a queue to an exchange [§1.7.2.3], with the queue's name as the routing key unless another is
            /// given.
            #[doc(alias = "QueueBindOptions")]
            fn queue_bind(queue: ShortString, exchange: ShortString)
        }

        /// Confirms the binding.
        "bind-ok" BindOk = 21 { }

        /// Drops all messages that no consumer holds.
        "purge" Purge = 30 -> PurgeOk {
            _: u16,
            /// The queue's name; empty means the queue that was declared last on this channel.
            queue: ShortString,
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
        } request {
            /// Drops the messages that are ready in a queue [§1.7.2.7]; those that are delivered and unacknowledged
            /// stay.
            fn queue_purge(queue: ShortString)
        }

        /// Says how many messages were dropped.
        "purge-ok" PurgeOk = 31 {
            /// How many messages were dropped.
            message_count: u32,
        }

        /// Deletes a queue with all its messages; one that does not exist is no error.
        "delete" Delete = 40 -> DeleteOk {
            _: u16,
            /// The queue's name; empty means the queue that was declared last on this channel.
            queue: ShortString,
            /// Whether to refuse with 406, which closes the channel, where it has consumers.
            if_unused: bool .if_unused,
            /// Whether to refuse with 406, which closes the channel, where it has messages.
            if_empty: bool .if_empty,
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
        } request {
            /// Deletes a queue [§1.7.2.9]; a queue that does not exist is no error.
            fn queue_delete(queue: ShortString)
        }

        /// Says how many messages were deleted with the queue.
        "delete-ok" DeleteOk = 41 {
            /// How many messages were in the queue.
            message_count: u32,
        }

        /// Removes exactly the binding that is described. AMQP has no nowait here.
        "unbind" Unbind = 50 -> UnbindOk {
            _: u16,
            /// The queue's name; empty means the queue that was declared last on this channel.
            queue: ShortString,
            /// The exchange's name; empty is the default one, which routes to the queue named by the routing key.
            exchange: ShortString,
            /// The key that the exchange routes by; any octets.
            routing_key: ShortString .routing_key = queue.clone(),
            /// The arguments that it was bound with.
            arguments: Table .arguments,
        } request {
            /// Removes a binding [§1.7.2.5]; a binding that does not exist is no error.
            fn queue_unbind(queue: ShortString, exchange: ShortString)
        }

        /// Confirms that the binding is removed.
        "unbind-ok" UnbindOk = 51 { }
    }
    /// Messages, and who gets them [§1.8].
    basic Basic 60 {
        /// Limits how many messages may be unacknowledged.
        "qos" Qos = 10 -> QosOk {
            /// Octets; RabbitMQ implements only 0, no limit.
            prefetch_size: u32,
            /// How many messages; 0 stands for no limit.
            prefetch_count: u16,
            /// Whether the limit is for the channel as a whole, instead of for each consumer that starts later (as
            /// RabbitMQ reads it). A RabbitMQ 4 to which the deprecated feature `global_qos` is denied does not refuse it,
            /// but takes it for each consumer.
            #[doc(alias = "global_qos")]
            #[doc(alias = "all_channels")]
            global: bool .global,
        } request {
            /// Limits the unacknowledged messages of each consumer that is made from now on [§1.8.3.1]; 0 is no limit.
            #[doc(alias = "BasicQosOptions")]
            fn basic_qos(prefetch_count: u16)
        }

        /// Confirms the limit.
        "qos-ok" QosOk = 11 { }

        /// Starts a consumer.
        "consume" Consume = 20 -> ConsumeOk {
            _: u16,
            /// The queue's name; empty means the queue that was declared last on this channel.
            queue: ShortString,
            /// The consumer's name on its channel; if none is given, a unique one is made.
            consumer_tag: ShortString .consumer_tag,
            /// Whether messages of this connection's own are left out; RabbitMQ ignores it.
            no_local: bool .no_local,
            /// Whether messages count as acknowledged as soon as they are sent: faster, and what is on its way can be
            /// lost.
            #[doc(alias = "auto_ack")]
            no_ack: bool .no_ack,
            /// Whether no other consumer may consume from the queue.
            exclusive: bool .exclusive,
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
            /// `x-priority` and so on.
            arguments: Table .arguments,
        }

        /// Confirms that the consumer has started.
        "consume-ok" ConsumeOk = 21 {
            /// The consumer's name on its channel.
            consumer_tag: ShortString,
        }

        /// Ends a consumer. RabbitMQ sends it too, when a consumer's queue is deleted.
        "cancel" Cancel = 30 -> CancelOk {
            /// The consumer's name on its channel.
            consumer_tag: ShortString,
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
        } request {
            /// Ends a consumer [§1.8.3.5]: nothing reaches it once this has been called, and what was on its way is
            /// requeued.
            fn basic_cancel(consumer_tag: ShortString)
        }

        /// Confirms that the consumer has ended.
        "cancel-ok" CancelOk = 31 {
            /// The consumer's name on its channel.
            consumer_tag: ShortString,
        }

        /// Publishes a message to an exchange.
        "publish" Publish = 40 content {
            _: u16,
            /// The exchange's name; empty is the default one, which routes to the queue named by the routing key.
            exchange: ShortString,
            /// The key that the exchange routes by; any octets.
            routing_key: ShortString,
            /// Whether a message that reaches no queue is returned.
            mandatory: bool,
            /// RabbitMQ does not implement it: `true` closes the connection with 540.
            immediate: bool,
        }

        /// Returns a mandatory message that reached no queue.
        "return" Return = 50 content {
            /// Reason as a number: one of [`reply_code`](crate::wire::spec::reply_code).
            reply_code: u16,
            /// Human-readable reason.
            reply_text: ShortString,
            /// The exchange's name; empty is the default one, which routes to the queue named by the routing key.
            exchange: ShortString,
            /// The key that the exchange routes by; any octets.
            routing_key: ShortString,
        }

        /// Delivers a message to a consumer.
        "deliver" Deliver = 60 content {
            /// The consumer's name on its channel.
            consumer_tag: ShortString,
            /// The message's number, on its channel and in its direction.
            delivery_tag: u64,
            /// Whether it may have been delivered before.
            redelivered: bool,
            /// The exchange's name; empty is the default one, which routes to the queue named by the routing key.
            exchange: ShortString,
            /// The key that the exchange routes by; any octets.
            routing_key: ShortString,
        }

        /// Asks for one message.
        "get" Get = 70 -> GetOk | GetEmpty {
            _: u16,
            /// The queue's name; empty means the queue that was declared last on this channel.
            queue: ShortString,
            /// Whether the message counts as acknowledged as soon as it is sent.
            #[doc(alias = "auto_ack")]
            no_ack: bool .no_ack,
        } request {
            /// Asks for one message [§1.8.3.10]; `None` if the queue is empty.
            #[doc(alias = "BasicGetOptions")]
            fn basic_get(queue: ShortString)
        }

        /// Brings the message that was asked for.
        "get-ok" GetOk = 71 content {
            /// The message's number, on its channel and in its direction.
            delivery_tag: u64,
            /// Whether it may have been delivered before.
            redelivered: bool,
            /// The exchange's name; empty is the default one, which routes to the queue named by the routing key.
            exchange: ShortString,
            /// The key that the exchange routes by; any octets.
            routing_key: ShortString,
            /// How many messages are left in the queue.
            message_count: u32,
        }

        /// Says that the queue is empty.
        "get-empty" GetEmpty = 72 {
            /// Reserved.
            cluster_id: ShortString,
        }

        /// From a consumer: acknowledges a message. From RabbitMQ, in confirm mode: confirms a publish.
        "ack" Ack = 80 {
            /// The message's number, on its channel and in its direction.
            delivery_tag: u64,
            /// Whether all earlier messages are meant too; delivery tag 0 then means every one.
            multiple: bool,
        }

        /// Rejects a message.
        "reject" Reject = 90 {
            /// The message's number, on its channel and in its direction.
            delivery_tag: u64,
            /// Whether the message goes back to its queue, rather than to the dead letters or nowhere.
            requeue: bool,
        }

        /// Obsolete: [`Recover`] without a reply.
        "recover-async" RecoverAsync = 100 {
            /// Whether the messages may go to other consumers; RabbitMQ can do nothing else.
            requeue: bool,
        }

        /// Asks for all unacknowledged messages again.
        "recover" Recover = 110 -> RecoverOk {
            /// Whether the messages may go to other consumers; RabbitMQ can do nothing else.
            requeue: bool = true,
        } request {
            /// Asks for all unacknowledged messages again [§1.8.3.16]; requeued, which is all that RabbitMQ can do.
            fn basic_recover()
        }

        /// Confirms that redelivery has started.
        "recover-ok" RecoverOk = 111 { }

        /// RabbitMQ, from a consumer: [`Reject`] for many. From RabbitMQ, in confirm mode: the message was lost.
        "nack" Nack = 120 {
            /// The message's number, on its channel and in its direction.
            delivery_tag: u64,
            /// Whether all earlier messages are meant too; delivery tag 0 then means every one.
            multiple: bool,
            /// Whether the message goes back to its queue, rather than to the dead letters or nowhere.
            requeue: bool,
        }
    }
    /// RabbitMQ: the broker confirms what is published.
    confirm Confirm 85 {
        /// RabbitMQ: puts the channel into confirm mode.
        "select" Select = 10 -> SelectOk {
            /// Whether there is no reply; a failure then closes the channel.
            nowait: bool,
        } request {
            /// Puts the channel into confirm mode (RabbitMQ): from now on each publish has an outcome, which
            /// [`basic_publish`](Self::basic_publish) returns.
            #[doc(alias = "confirm_delivery")]
            fn confirm_select()
        }

        /// RabbitMQ: confirms that every publish from now on is confirmed; the first has delivery tag 1.
        "select-ok" SelectOk = 11 { }
    }
    /// Transactions on one channel [§1.9].
    tx Tx 90 {
        /// Makes the channel transactional.
        "select" Select = 10 -> SelectOk { } request {
            /// Begins transactions on this channel [§1.9.2.1].
            fn tx_select()
        }

        /// Confirms that the channel is transactional.
        "select-ok" SelectOk = 11 { }

        /// Commits the transaction.
        "commit" Commit = 20 -> CommitOk { } request {
            /// Commits what was published and acknowledged since [§1.9.2.3].
            fn tx_commit()
        }

        /// Confirms that the broker has committed the transaction.
        "commit-ok" CommitOk = 21 { }

        /// Rolls the transaction back.
        "rollback" Rollback = 30 -> RollbackOk { } request {
            /// Rolls back what was published and acknowledged since [§1.9.2.5].
            fn tx_rollback()
        }

        /// Confirms that the broker has rolled the transaction back.
        "rollback-ok" RollbackOk = 31 { }
    }
} };
}
