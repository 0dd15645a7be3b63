//! Connection: one Kafka client. Frames in, responses out in request order.
//!
//! The actor's mailbox carries control only (close, chaos). The socket is turned by [`SocketLoop`], a future that lives on the
//! actor's context: it reads what is there, starts every whole frame without waiting for earlier answers, and writes
//! whatever prefix of the answers is complete. Appends and their completions pass no mailbox of this actor.
//!
//! What bounds it: a frame is paid for from the [`MemoryBudget`] before its body is read; at most [`IN_FLIGHT_MAX`] requests
//! are open, and at most [`UNCONFIRMED_BYTES_MAX`] of records wait for the disk; and nothing is read while more than
//! [`UNSENT_BYTES_MAX`] wait for a slow client to take them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use atomic_waker::AtomicWaker;
use bytes::{Buf, BufMut, BytesMut};
use log::{debug, info, warn};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use crate::budget::{BudgetPermit, MemoryBudget};
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::output::Output;
use crate::read_buffers::ReadBuffers;
use crate::request_metrics::Begun;
use crate::requests::{self, Dispatch, PendingResponse, RequestContext, Response};
use crate::supervision::ExitSignal;

/// Requests of one connection that are open at a time.
pub const IN_FLIGHT_MAX: usize = 1024;
/// What one client's produce requests hold while they wait for the disk. Two rounds of the journal keep it busy; more would
/// only be more memory, and none of it still in the processor's cache when its turn comes.
pub const UNCONFIRMED_BYTES_MAX: usize = 16 << 20;
/// Answers that wait for a slow client; beyond it nothing more is read from it.
pub const UNSENT_BYTES_MAX: usize = 1 << 20;
/// The first request is ApiVersions, or at most a Metadata: what is larger is not a client.
pub const FIRST_FRAME_BYTES_MAX: usize = 64 << 10;
/// A socket that has not sent one whole request by then is closed.
pub const FIRST_REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// A frame that has begun must be whole by then, whatever its size.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(60);
/// What a read makes room for: a client that sends little costs little, one that fills its room is given more.
const READ_BYTES_MIN: usize = 2 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// A frame longer than this is read exactly to its end, into a buffer of its own size.
const LARGE_FRAME_BYTES: usize = 32 << 10;
const TICK: Duration = Duration::from_secs(1);
/// How often a busy socket is turned before others on its arbiter get their turn.
const TURNS_MAX: usize = 8;
const WRITE_SLICES_MAX: usize = 64;

/// Close the connection: the listener stops, or an operator asks.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close {
    /// Answer what is in flight first.
    pub drain: bool,
}

pub struct Connection {
    stream: TcpStream,
    context: Rc<RequestContext>,
    limits: ConnectionLimits,
    budget: MemoryBudget,
    entry: Arc<ActorEntry>,
    input: BytesMut,
    /// Of `input` when it is one of the arbiter's buffers; otherwise 0.
    input_capacity: usize,
    buffers: ReadBuffers,
    read_bytes: usize,
    /// The largest frame that this client has sent.
    largest_frame_bytes: usize,
    /// Waits for the budget to allow a frame of so many bytes.
    waiting_permit: Option<Pin<Box<dyn Future<Output = BudgetPermit>>>>,
    /// Paid for, and perhaps not yet whole in `input`.
    frame: Option<(usize, BudgetPermit)>,
    frame_began: Option<Instant>,
    in_flight: VecDeque<(Begun, InFlight)>,
    unconfirmed_bytes: usize,
    output: Output,
    waker: Arc<AtomicWaker>,
    tick: Pin<Box<Sleep>>,
    opened: Instant,
    last_active: Instant,
    requests_count: u64,
    is_draining: bool,
    has_read_all: bool,
    _exit: ExitSignal<u64>,
}

/// What the broker's configuration says of every connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    pub frame_bytes_max: usize,
    pub idle_max: Duration,
}

/// What a new connection begins with.
pub struct ConnectionStart {
    pub stream: TcpStream,
    pub context: RequestContext,
    pub limits: ConnectionLimits,
    pub budget: MemoryBudget,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<u64>,
}

/// Why a connection is over.
enum Closing {
    /// The client did what none should: worth a line in the log.
    Fault(String),
    End(String),
}

enum InFlight {
    Ready(Response),
    Produce { pending: PendingResponse, frame_bytes: usize },
    Task(RunningRequest),
}

type TaskSlot = Rc<RefCell<Option<Result<Response, String>>>>;

/// A request that runs beside the socket loop, and ends with its connection: a long poll must not outlive its client.
struct RunningRequest {
    slot: TaskSlot,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    pub fn new(start: ConnectionStart) -> Self {
        let now = Instant::now();
        Self {
            stream: start.stream,
            waker: start.context.waker.clone(),
            context: Rc::new(start.context),
            limits: start.limits,
            budget: start.budget,
            entry: start.entry,
            input: BytesMut::new(),
            input_capacity: 0,
            buffers: ReadBuffers::of_this_arbiter(),
            read_bytes: READ_BYTES_MIN,
            largest_frame_bytes: 0,
            waiting_permit: None,
            frame: None,
            frame_began: None,
            in_flight: VecDeque::new(),
            unconfirmed_bytes: 0,
            output: Output::default(),
            tick: Box::pin(tokio::time::sleep(TICK)),
            opened: now,
            last_active: now,
            requests_count: 0,
            is_draining: false,
            has_read_all: false,
            _exit: start.exit,
        }
    }

    /// Turns the socket until nothing moves; ready with the reason when the connection is over.
    fn turn(&mut self, task: &mut TaskContext<'_>) -> Poll<Closing> {
        self.waker.register(task.waker());
        for _ in 0..TURNS_MAX {
            let mut has_moved = match self.collect_responses() {
                Ok(has_moved) => has_moved,
                Err(reason) => return Poll::Ready(Closing::Fault(reason)),
            };
            match self.write(task) {
                Ok(wrote) => has_moved |= wrote,
                Err(error) => return Poll::Ready(Closing::End(format!("write failed: {error}"))),
            }
            if self.may_read() {
                match self.process_frames(task) {
                    Ok(processed) => has_moved |= processed,
                    Err(reason) => return Poll::Ready(Closing::Fault(reason)),
                }
            }
            if self.may_read() && self.waiting_permit.is_none() {
                match self.read(task) {
                    Ok(read) => has_moved |= read,
                    Err(error) => return Poll::Ready(Closing::End(format!("read failed: {error}"))),
                }
            }
            if (self.is_draining || self.has_read_all) && self.in_flight.is_empty() && self.output.is_empty() {
                let reason = if self.has_read_all { "closed by the client" } else { "drained" };
                return Poll::Ready(Closing::End(reason.to_owned()));
            }
            if !has_moved {
                return self.check_deadlines(task);
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    fn may_read(&self) -> bool {
        !self.is_draining
            && !self.has_read_all
            && self.in_flight.len() < IN_FLIGHT_MAX
            && self.unconfirmed_bytes < UNCONFIRMED_BYTES_MAX
            && self.output.len_bytes < UNSENT_BYTES_MAX
    }

    /// Moves the complete head of the queue to the output, in request order.
    fn collect_responses(&mut self) -> Result<bool, String> {
        let mut has_moved = false;
        while self.output.len_bytes < UNSENT_BYTES_MAX {
            let (begun, response) = match self.in_flight.front() {
                Some((_, InFlight::Ready(_))) => {
                    let Some((begun, InFlight::Ready(response))) = self.in_flight.pop_front() else { break };
                    (begun, response)
                }
                Some((_, InFlight::Produce { pending, .. })) if pending.is_complete() => {
                    let Some((begun, InFlight::Produce { pending, frame_bytes })) = self.in_flight.pop_front() else {
                        break;
                    };
                    self.unconfirmed_bytes -= frame_bytes;
                    (begun, pending.into_response(&self.context)?)
                }
                Some((begun, InFlight::Task(running))) if running.slot.borrow().is_some() => {
                    let (begun, outcome) = (*begun, running.slot.borrow_mut().take());
                    self.in_flight.pop_front();
                    (begun, outcome.unwrap_or_else(|| Err("the request has no outcome".to_string()))?)
                }
                _ => break,
            };
            self.context.broker.metrics.requests.answered(begun);
            self.output.push(response);
            has_moved = true;
        }
        Ok(has_moved)
    }

    fn write(&mut self, task: &mut TaskContext<'_>) -> std::io::Result<bool> {
        let mut has_moved = false;
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let count = self.output.slices(&mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(task, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    self.last_active = Instant::now();
                    has_moved = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(has_moved)
    }

    fn read(&mut self, task: &mut TaskContext<'_>) -> std::io::Result<bool> {
        let wanted = match &self.frame {
            // Exactly to the end of a large frame: its buffer then belongs to nobody else.
            Some((size, _)) if *size > LARGE_FRAME_BYTES => size.saturating_sub(self.input.len()),
            _ => self.read_bytes,
        };
        if wanted == 0 {
            return Ok(false);
        }
        // Grow with what arrives, or has arrived before: a length that is only claimed must not cost its memory.
        let proven = self.read_bytes.max(self.input.len()).max(self.largest_frame_bytes);
        self.make_room(wanted.min(proven));
        let mut room = (&mut self.input).limit(wanted);
        match poll_read_buf(Pin::new(&mut self.stream), task, &mut room) {
            Poll::Ready(Ok(0)) => {
                self.has_read_all = true;
                Ok(true)
            }
            Poll::Ready(Ok(count)) => {
                if count >= self.read_bytes {
                    self.read_bytes = (self.read_bytes * 4).min(READ_BYTES_MAX);
                }
                self.last_active = Instant::now();
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(false),
        }
    }

    /// Room for `wanted_bytes` more. A client that sends large frames reads into the arbiter's buffers from a frame's head on.
    fn make_room(&mut self, wanted_bytes: usize) {
        let has_bytes = self.input.len();
        if self.input.capacity() - has_bytes >= wanted_bytes {
            return;
        }
        let mut capacity = has_bytes + wanted_bytes;
        if self.largest_frame_bytes > LARGE_FRAME_BYTES {
            capacity = capacity.max(self.largest_frame_bytes + READ_BYTES_MAX);
        }
        if capacity <= LARGE_FRAME_BYTES + READ_BYTES_MAX {
            self.input.reserve(wanted_bytes);
            return;
        }
        let mut larger = self.buffers.take(capacity);
        larger.extend_from_slice(&self.input);
        self.give_back_input();
        self.input_capacity = larger.capacity();
        self.input = larger;
    }

    /// The next read begins in a buffer of its own; the memory of this one may come back when its frames are gone.
    fn give_back_input(&mut self) {
        if self.input_capacity > 0 {
            self.buffers.keep(std::mem::take(&mut self.input), self.input_capacity);
            self.input_capacity = 0;
        }
    }

    /// Starts every whole frame in the input.
    fn process_frames(&mut self, task: &mut TaskContext<'_>) -> Result<bool, String> {
        let mut has_moved = false;
        while self.may_read() {
            if self.frame.is_none() {
                let Some(size) = self.frame_size()? else { break };
                match self.pay_for(size, task) {
                    Some(permit) => self.frame = Some((size, permit)),
                    None => break,
                }
            }
            let Some((size, _)) = &self.frame else { break };
            if self.input.len() < *size {
                break;
            }
            self.largest_frame_bytes = self.largest_frame_bytes.max(*size);
            let frame = self.input.split_to(*size);
            // The rest of a buffer serves on, unless the frame took most of it: no small frame shall hold a large buffer.
            if self.input.is_empty() && frame.len() >= self.input_capacity / 2 {
                self.give_back_input();
            }
            let permit = self.frame.take().map(|(_, permit)| permit);
            self.frame_began = None;
            self.requests_count += 1;
            self.start(frame, permit)?;
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Takes the four bytes of the next frame's size off the input.
    fn frame_size(&mut self) -> Result<Option<usize>, String> {
        if self.waiting_permit.is_none() && self.input.is_empty() {
            self.frame_began = None;
            return Ok(None);
        }
        self.frame_began.get_or_insert_with(Instant::now);
        let Some(head) = self.input.first_chunk::<4>() else { return Ok(None) };
        let claimed = i32::from_be_bytes(*head);
        let max = if self.requests_count == 0 {
            FIRST_FRAME_BYTES_MAX.min(self.limits.frame_bytes_max)
        } else {
            self.limits.frame_bytes_max
        };
        let size = usize::try_from(claimed).ok().filter(|size| (1..=max).contains(size));
        let Some(size) = size else {
            return Err(format!("a frame claims {claimed} bytes; the limit here is {max}"));
        };
        Ok(Some(size))
    }

    /// A permit for the frame, which takes its size off the input; None while the budget has no room.
    fn pay_for(&mut self, size: usize, task: &mut TaskContext<'_>) -> Option<BudgetPermit> {
        let permit = match &mut self.waiting_permit {
            Some(waiting) => match waiting.as_mut().poll(task) {
                Poll::Ready(permit) => permit,
                Poll::Pending => return None,
            },
            None => match self.budget.try_acquire(size) {
                Some(permit) => permit,
                None => {
                    let budget = self.budget.clone();
                    let mut waiting = Box::pin(async move { budget.acquire(size).await });
                    // Poll once, so that the semaphore knows this task.
                    match waiting.as_mut().poll(task) {
                        Poll::Ready(permit) => permit,
                        Poll::Pending => {
                            self.waiting_permit = Some(waiting);
                            return None;
                        }
                    }
                }
            },
        };
        self.waiting_permit = None;
        self.input.advance(4);
        Some(permit)
    }

    fn start(&mut self, frame: BytesMut, permit: Option<BudgetPermit>) -> Result<(), String> {
        let frame_bytes = frame.len();
        let begun = Begun::of(&frame, Instant::now());
        match requests::dispatch(&self.context, frame, permit) {
            Dispatch::Ready(response) => self.in_flight.push_back((begun, InFlight::Ready(response))),
            Dispatch::Produce(pending) => {
                self.unconfirmed_bytes += frame_bytes;
                self.in_flight.push_back((begun, InFlight::Produce { pending, frame_bytes }));
            }
            Dispatch::Later(request) => {
                let slot = TaskSlot::default();
                let task = actix_rt::spawn(run_request(slot.clone(), self.waker.clone(), request));
                self.in_flight.push_back((begun, InFlight::Task(RunningRequest { slot, task })));
            }
            Dispatch::Close(reason) => return Err(reason),
        }
        Ok(())
    }

    fn check_deadlines(&mut self, task: &mut TaskContext<'_>) -> Poll<Closing> {
        while self.tick.as_mut().poll(task).is_ready() {
            let now = Instant::now();
            if self.requests_count == 0 && now.duration_since(self.opened) > FIRST_REQUEST_DEADLINE {
                return Poll::Ready(Closing::Fault("no whole request within the deadline".to_owned()));
            }
            if self.frame_began.is_some_and(|began| now.duration_since(began) > FRAME_DEADLINE)
                && self.waiting_permit.is_none()
            {
                return Poll::Ready(Closing::Fault("a frame was not whole within the deadline".to_owned()));
            }
            if self.in_flight.is_empty() && now.duration_since(self.last_active) > self.limits.idle_max {
                return Poll::Ready(Closing::End("idle for too long".to_owned()));
            }
            self.time_out_produces(now);
            if self.input.is_empty() && now.duration_since(self.last_active) > TICK {
                self.input = BytesMut::new(); // an idle connection owns no buffer
                self.input_capacity = 0;
                self.read_bytes = READ_BYTES_MIN;
                self.largest_frame_bytes = 0;
            }
            self.buffers.shrink(now);
            self.entry.parked.store(self.in_flight.len() as u64, std::sync::atomic::Ordering::Relaxed);
            let held = self.input.len() + self.output.len_bytes;
            self.entry.bytes_held.store(held as u64, std::sync::atomic::Ordering::Relaxed);
            self.tick.as_mut().reset((now + TICK).into());
            if matches!(self.in_flight.front(), Some((_, InFlight::Produce { pending, .. })) if pending.is_complete()) {
                task.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn time_out_produces(&mut self, now: Instant) {
        for (_, in_flight) in &mut self.in_flight {
            if let InFlight::Produce { pending, .. } = in_flight {
                pending.time_out(now);
            }
        }
    }
}

/// Runs a request that must wait for something, and wakes the socket when it has its answer. A panic in it closes this
/// connection only.
async fn run_request(slot: TaskSlot, waker: Arc<AtomicWaker>, request: requests::LaterResponse) {
    struct WakeOnDrop(TaskSlot, Arc<AtomicWaker>);
    impl Drop for WakeOnDrop {
        fn drop(&mut self) {
            self.0.borrow_mut().get_or_insert_with(|| Err("a request handler panicked".to_string()));
            self.1.wake();
        }
    }
    let guard = WakeOnDrop(slot, waker);
    let outcome = request.await;
    *guard.0.borrow_mut() = Some(outcome);
}

/// Polled by actix whenever the connection's task wakes.
struct SocketLoop;

impl ActorFuture<Connection> for SocketLoop {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        connection: &mut Connection,
        context: &mut Context<Connection>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        match connection.turn(task) {
            Poll::Ready(closing) => {
                let (peer, count) = (connection.context.peer, connection.requests_count);
                match closing {
                    Closing::Fault(reason) => info!("{peer}: connection closed after {count} requests: {reason}"),
                    Closing::End(reason) => debug!("{peer}: connection closed after {count} requests: {reason}"),
                }
                context.stop();
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(1, Some(context.address().recipient()));
        if let Err(error) = self.stream.set_nodelay(true) {
            warn!("{}: cannot set TCP_NODELAY: {error}", self.context.peer);
        }
        context.spawn(SocketLoop);
    }
}

impl Handler<Close> for Connection {
    type Result = ();

    fn handle(&mut self, close: Close, context: &mut Self::Context) {
        self.is_draining = true;
        if close.drain {
            // What waits for more records is answered with what there is.
            self.context.is_draining.set(true);
            self.context.fetch_waiter.notify_waiters();
            self.waker.wake();
        } else {
            context.stop();
        }
    }
}

impl Handler<Chaos> for Connection {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
