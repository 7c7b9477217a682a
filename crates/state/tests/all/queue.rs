//! The queue against a model: whoever can use a place and has waited longest has it, nothing is
//! lost on those who leave or have no use for it, and in the end nothing is left over.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use evenflow_state::queue::{Offer, Place, Queue};
use proptest::prelude::*;

/// Endpoints with so much room each, as the engine uses the queue for them.
struct House {
    queue: Arc<Queue<Wants, Seat>>,
    endpoints: Vec<(AtomicU32, u32)>,
}

/// The endpoints that a waiter can use, a bit each.
#[derive(Clone, Copy)]
struct Wants(u32);

struct Seat {
    house: Arc<House>,
    index: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.house.endpoints[self.index]
            .0
            .fetch_sub(1, Ordering::SeqCst);
        House::offer(&self.house);
    }
}

impl House {
    fn new(room: &[u32]) -> Arc<Self> {
        Arc::new(Self {
            queue: Arc::default(),
            endpoints: room.iter().map(|&max| (AtomicU32::new(0), max)).collect(),
        })
    }

    fn enter(house: &Arc<Self>, wants: Wants) -> Option<Seat> {
        let index = (0..house.endpoints.len()).find(|&index| {
            let (taken, max) = &house.endpoints[index];
            let more = |count| (count < *max).then_some(count + 1);
            wants.0 & 1 << index != 0
                && taken
                    .fetch_update(Ordering::AcqRel, Ordering::Relaxed, more)
                    .is_ok()
        })?;
        let house = Arc::clone(house);
        Some(Seat { house, index })
    }

    fn is_full(&self) -> bool {
        let mut all = self.endpoints.iter();
        all.all(|(taken, max)| taken.load(Ordering::Relaxed) >= *max)
    }

    fn offer(house: &Arc<Self>) {
        if house.queue.waiting() == 0 {
            return;
        }
        house.queue.offer(|wants| {
            if house.is_full() {
                return Offer::Stop;
            }
            Self::enter(house, *wants).map_or(Offer::Pass, Offer::Take)
        });
    }

    /// A seat at once, or a place in the queue.
    fn arrive(house: &Arc<Self>, wants: Wants) -> Result<Seat, Place<Wants, Seat>> {
        if house.queue.waiting() == 0
            && let Some(seat) = Self::enter(house, wants)
        {
            return Ok(seat);
        }
        let place = house.queue.join(wants);
        Self::offer(house);
        place.fetch().ok_or(place)
    }

    fn taken(&self) -> u32 {
        let all = self.endpoints.iter();
        all.map(|(taken, _)| taken.load(Ordering::Relaxed)).sum()
    }
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// One arrives that can use the endpoints of these bits.
    Arrive(u32),
    /// One of those who wait leaves, whether or not it has been granted a place meanwhile.
    Leave(usize),
    /// One of those who have a place gives it back.
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..8_u32).prop_map(Step::Arrive),
        1 => any::<usize>().prop_map(Step::Leave),
        3 => any::<usize>().prop_map(Step::Release),
    ]
}

/// One who waits: what it can use, its place, and the bell that a grant rings.
struct Waiting {
    wants: u32,
    place: Place<Wants, Seat>,
    bell: Arc<Bell>,
    waker: Waker,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_longest_waiting_that_can_use_a_place_has_it(
        room in prop::collection::vec(1..3_u32, 3),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let house = House::new(&room);
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut seated: Vec<Seat> = Vec::new();
        for step in steps {
            match step {
                Step::Arrive(wants) => match House::arrive(&house, Wants(wants)) {
                    Ok(seat) => seated.push(seat),
                    Err(place) => {
                        let bell = Arc::new(Bell::default());
                        let waker = Waker::from(Arc::clone(&bell));
                        prop_assert!(place.poll(&Context::from_waker(&waker)).is_pending());
                        waiting.push(Waiting { wants, place, bell, waker });
                    }
                },
                Step::Leave(which) if !waiting.is_empty() => {
                    let which = which % waiting.len();
                    waiting.remove(which);
                }
                Step::Release(which) if !seated.is_empty() => {
                    let which = which % seated.len();
                    let free = seated[which].index;
                    let next = waiting.iter().position(|one| one.wants & 1 << free != 0);
                    seated.swap_remove(which);
                    let rung = waiting
                        .iter()
                        .position(|one| one.bell.0.load(Ordering::SeqCst) > 0);
                    prop_assert_eq!(rung, next, "endpoint {} became free", free);
                }
                Step::Leave(_) | Step::Release(_) => {}
            }
            // Those who were granted a place fetch it.
            let mut index = 0;
            while index < waiting.len() {
                let one = &waiting[index];
                let rung = one.bell.0.load(Ordering::SeqCst) > 0;
                match one.place.poll(&Context::from_waker(&one.waker)) {
                    Poll::Ready(seat) => {
                        prop_assert!(rung, "a grant without a wake-up");
                        prop_assert!(one.wants & 1 << seat.index != 0);
                        seated.push(seat);
                        waiting.remove(index);
                    }
                    Poll::Pending => {
                        prop_assert!(!rung, "a wake-up without a grant");
                        index += 1;
                    }
                }
            }
            prop_assert_eq!(house.taken() as usize, seated.len());
            prop_assert_eq!(house.queue.waiting() as usize, waiting.len());
            for one in &waiting {
                for (index, (taken, max)) in house.endpoints.iter().enumerate() {
                    let free = taken.load(Ordering::Relaxed) < *max;
                    prop_assert!(!free || one.wants & 1 << index == 0, "it waits beside a free place");
                }
            }
        }
        drop(waiting);
        drop(seated);
        prop_assert_eq!(house.taken(), 0);
        prop_assert!(house.queue.is_empty());
    }
}

#[test]
fn one_that_leaves_with_its_grant_in_hand_passes_it_on() {
    let house = House::new(&[1]);
    let Ok(seat) = House::arrive(&house, Wants(1)) else {
        panic!("a place is free");
    };
    let first = House::arrive(&house, Wants(1)).err().unwrap();
    let second = House::arrive(&house, Wants(1)).err().unwrap();
    drop(seat);
    drop(first);
    assert!(second.fetch().is_some());
    assert_eq!(house.taken(), 0);
    assert!(house.queue.is_empty());
}

/// Threads come and go; whoever waits is served, however the others' arrivals, cancels and releases
/// fall between.
#[test]
fn no_place_is_lost_between_threads() {
    let house = House::new(&[1, 2, 1]);
    let served = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..6_u32)
        .map(|thread| {
            let (house, served) = (Arc::clone(&house), Arc::clone(&served));
            std::thread::spawn(move || {
                let end = Instant::now() + Duration::from_secs(30);
                for number in 0..4000_u32 {
                    let wants = Wants(1 + (thread + number) % 7);
                    match House::arrive(&house, wants) {
                        Ok(seat) => drop(seat),
                        Err(place) if number.is_multiple_of(5) => drop(place),
                        Err(place) => loop {
                            if let Some(seat) = place.fetch() {
                                drop(seat);
                                break;
                            }
                            assert!(Instant::now() < end, "waited in vain");
                            std::thread::yield_now();
                        },
                    }
                    *served.lock().unwrap() += 1;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(*served.lock().unwrap(), 24_000);
    assert_eq!(house.taken(), 0);
    assert!(house.queue.is_empty());
}
