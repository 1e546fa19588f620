//! A bar on the terminal for each row, and how many rows there are.

use std::{
    io::{IsTerminal, Write, stderr},
    time::Instant,
};

pub struct Progress {
    begun: Instant,
    rows: usize,
    row: usize,
    name: &'static str,
    steps: usize,
    done: usize,
}

impl Progress {
    /// Begins, with so many rows to come.
    pub fn new(rows: usize) -> Self {
        Self { begun: Instant::now(), rows, row: 0, name: "", steps: 0, done: 0 }
    }

    pub fn row(&mut self, name: &'static str) {
        self.row += 1;
        (self.name, self.steps, self.done) = (name, 0, 0);
        if !stderr().is_terminal() {
            self.draw("");
        }
    }

    /// Says how many steps the row has.
    pub fn steps(&mut self, steps: usize) {
        self.steps = steps;
    }

    /// Tells what the next step is.
    pub fn step(&mut self, what: &str) {
        if stderr().is_terminal() {
            self.draw(what);
        }
        self.done += 1;
    }

    fn draw(&self, what: &str) {
        const WIDTH: usize = 24;
        let filled = WIDTH * self.done.min(self.steps) / self.steps.max(1);
        let bar = "#".repeat(filled) + &".".repeat(WIDTH - filled);
        let (row, rows, name, seconds) =
            (self.row, self.rows, self.name, self.begun.elapsed().as_secs());
        let line = format!("{seconds:>4} s  row {row}/{rows} {name:<16} [{bar}] {what:.30}");
        let mut out = stderr();
        // A log gets a line for a row, a terminal one line that changes.
        let _ =
            if out.is_terminal() { write!(out, "\r{line:<110}") } else { writeln!(out, "{line}") };
    }

    pub fn end(&self) {
        let _ = writeln!(stderr(), "\n{} rows in {} s", self.row, self.begun.elapsed().as_secs());
    }
}
