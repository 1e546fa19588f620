//! An invalidation while a fill is on its way: what the next request is answered with.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::{Bench, columns};
use crate::{
    columns::{Entry, Keeps},
    course::{FIRST, pause, runtime_of_two},
    origin::{Content, Pace, Script, Storable},
    report::Cell,
    site::{AnySite, Plan, Wish},
};

const PATIENCE: Duration = Duration::from_secs(2);

/// The value changes and is invalidated while the handler, which has read the old one, still works.
pub fn during_a_fill(bench: &mut Bench) -> Vec<Cell> {
    let columns = columns(&[Keeps::Memory, Keeps::Redis]);
    bench.progress.steps(columns.len());
    let url = bench.server.url();
    let mut cells = Vec::new();
    for column in columns {
        bench.progress.step(column.name);
        let runtime = runtime_of_two();
        let told = runtime.block_on(async {
            bench.server.run(&["FLUSHALL"]).await;
            race(column, &url).await
        });
        cells.push(match told {
            Ok(is_new) => Cell::new(column.name, [("sees_new", f64::from(is_new))]),
            Err(why) => Cell::fault(column.name, why),
        });
    }
    cells
}

async fn race(column: &Entry, url: &str) -> Result<bool, String> {
    let script = Script::new(Storable::Yes, Content::Value, Pace::Gated);
    let plan = Plan { redis: Some(url.to_owned()), ..Plan::new(script) };
    let site = (column.build)(plan).await;
    let fill = tokio::spawn(site.ask(Wish::get(), FIRST));
    while script.calls.load(Ordering::SeqCst) == 0 {
        pause(Duration::from_millis(1)).await;
    }
    script.value.store(2, Ordering::SeqCst);
    let invalidated = site.invalidate(FIRST).ok_or("it has no way to invalidate")?;
    let is_done = timeout(PATIENCE, invalidated).await.is_ok();
    script.gate.add_permits(1);
    let filled = timeout(PATIENCE, fill).await;
    filled.map_err(|_| "the fill hangs")?.map_err(|_| "the fill panics")??;
    if !is_done {
        return Err("the invalidation hangs".to_owned());
    }
    let is_new = look(&site, FIRST).await? == "2";
    // Where nothing is under way an invalidation must work, or it was not one.
    look(&site, FIRST + 1).await?;
    script.value.store(3, Ordering::SeqCst);
    let invalidated = site.invalidate(FIRST + 1).ok_or("it has no way to invalidate")?;
    timeout(PATIENCE, invalidated).await.map_err(|_| "the invalidation hangs")?;
    if look(&site, FIRST + 1).await? != "3" {
        return Err("the invalidation does nothing".to_owned());
    }
    Ok(is_new)
}

async fn look(site: &AnySite, number: u32) -> Result<Bytes, String> {
    // A store may finish what it does on the side.
    pause(Duration::from_millis(50)).await;
    let seen = timeout(PATIENCE, site.ask(Wish::get(), number)).await;
    Ok(seen.map_err(|_| "the next request hangs")??.body)
}
