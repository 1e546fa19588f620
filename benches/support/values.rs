//! What the responses of the work differ in, in turn: for this crate's benchmarks and for `peers`.

use http::HeaderValue;

pub(crate) static TAGS: [HeaderValue; 4] = [
    HeaderValue::from_static("\"33a64df551425fcc55e4d42a148795d9\""),
    HeaderValue::from_static("\"9b3f2c0d4e5a16788c1d2e3f4a5b6c7d\""),
    HeaderValue::from_static("\"0f1e2d3c4b5a69788796a5b4c3d2e1f0\""),
    HeaderValue::from_static("\"c4ca4238a0b923820dcc509a6f75849b\""),
];

pub(crate) static CHANGES: [HeaderValue; 4] = [
    HeaderValue::from_static("Sun, 22 Nov 2026 11:00:00 GMT"),
    HeaderValue::from_static("Sat, 21 Nov 2026 10:10:00 GMT"),
    HeaderValue::from_static("Fri, 20 Nov 2026 09:20:00 GMT"),
    HeaderValue::from_static("Thu, 19 Nov 2026 08:30:00 GMT"),
];
