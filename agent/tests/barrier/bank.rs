// SPDX-License-Identifier: Apache-2.0
//! A bank of several houses that move money between each other without pause. Each house writes its book before it sends what it has written of.

use crate::dice::Dice;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// Houses of the bank.
pub(crate) const HOUSES: usize = 3;
/// What each begins with.
pub(crate) const BEGIN: i64 = 1_000_000;
/// Transfers on their way that each house begins with.
const TOKENS: usize = 2;

/// A house's book: its balance, and what it has sent to and received from each house.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) balance: i64,
    pub(crate) sent: [i64; HOUSES],
    pub(crate) received: [i64; HOUSES],
}

impl Book {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let numbers: Vec<i64> = bytes.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().expect("8"))).collect();
        let part = |from: usize| numbers[from..from + HOUSES].try_into().expect("as many as houses");
        Self { balance: numbers[0], sent: part(1), received: part(1 + HOUSES) }
    }

    fn bytes(&self) -> Vec<u8> {
        let numbers = std::iter::once(&self.balance).chain(&self.sent).chain(&self.received);
        numbers.flat_map(|number| number.to_le_bytes()).collect()
    }
}

/// What is wrong with the books of all houses, if anything is.
pub(crate) fn audit(books: &[Book]) -> Option<String> {
    let mut on_the_way = 0;
    for (from, sender) in books.iter().enumerate() {
        for (to, receiver) in books.iter().enumerate() {
            let (sent, received) = (sender.sent[to], receiver.received[from]);
            if received > sent {
                return Some(format!("house {to} has received {received} of house {from}, which has sent {sent}"));
            }
            on_the_way += sent - received;
        }
    }
    let held: i64 = books.iter().map(|book| book.balance).sum();
    let all = BEGIN * i64::try_from(HOUSES).expect("few");
    (held + on_the_way != all).then(|| format!("{held} held and {on_the_way} on the way are not {all}"))
}

struct House {
    number: usize,
    book: Book,
    file: File,
    lines: Vec<Option<TcpStream>>,
    dice: Dice,
}

impl House {
    /// Books first, then sends.
    fn send(&mut self) {
        let others = u64::try_from(HOUSES - 1).expect("few");
        let to = (self.number + 1 + usize::try_from(self.dice.roll(others)).expect("few")) % HOUSES;
        let amount = i64::try_from(self.dice.roll(100)).expect("small") + 1;
        self.book.balance -= amount;
        self.book.sent[to] += amount;
        self.file.write_all_at(&self.book.bytes(), 0).expect("written");
        self.lines[to].as_mut().expect("a line").write_all(&amount.to_le_bytes()).expect("sent");
    }
}

/// A house's process: its number, its state's directory, its hook's socket; it says its port, and is told all of them.
pub(crate) fn run(number: usize, rest: &[&str]) {
    let [state, hook] = rest else { panic!("--bank NUMBER STATE HOOK") };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{} {}", std::process::id(), listener.local_addr().expect("bound").port());
    let mut ports = String::new();
    std::io::stdin().read_line(&mut ports).expect("told");
    let ports: Vec<u16> = ports.split_whitespace().map(|port| port.parse().expect("a port")).collect();
    let file = File::options().create(true).write(true).truncate(true).open(Path::new(state).join("book")).expect("a file");
    let lines = ports.iter().enumerate().map(|(to, port)| {
        (to != number).then(|| {
            let mut line = TcpStream::connect(("127.0.0.1", *port)).expect("a line");
            line.set_nodelay(true).expect("a line");
            line.write_all(&[u8::try_from(number).expect("few")]).expect("said");
            line
        })
    });
    let seed = 0x9e37_79b9_7f4a_7c15 ^ (u64::try_from(number).expect("few") + 1);
    let book = Book { balance: BEGIN, ..Book::default() };
    let house = Arc::new(Mutex::new(House { number, book, file, lines: lines.collect(), dice: Dice(seed) }));
    std::thread::scope(|threads| {
        for _ in 1..HOUSES {
            let (mut line, _) = listener.accept().expect("a line");
            let house = Arc::clone(&house);
            threads.spawn(move || {
                let mut from = [0];
                line.read_exact(&mut from).expect("who");
                let mut amount = [0; 8];
                // the other house is gone: so is the bank
                while line.read_exact(&mut amount).is_ok() {
                    let mut house = house.lock().expect("no panic");
                    let amount = i64::from_le_bytes(amount);
                    house.book.balance += amount;
                    house.book.received[usize::from(from[0])] += amount;
                    house.send();
                }
                std::process::exit(0);
            });
        }
        for _ in 0..TOKENS {
            house.lock().expect("no panic").send();
        }
        println!("open");
        // whoever has opened the bank is gone: so is the house
        threads.spawn(|| {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("read");
            std::process::exit(0);
        });
        asked(&UnixListener::bind(hook).expect("a socket"), &house);
    });
}

/// Rests when it is asked to: nobody books or sends while somebody else has the book.
fn asked(listener: &UnixListener, house: &Mutex<House>) {
    let mut resting: Option<MutexGuard<'_, House>> = None;
    for stream in listener.incoming() {
        let mut stream = stream.expect("asked");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("a line");
        match line.trim() {
            "rest" => resting = resting.or_else(|| house.lock().ok()),
            "go" => resting = None,
            other => panic!("asked to {other}"),
        }
        // whoever asked may have gone
        let _ = writeln!(stream, "ok");
    }
}
