//! The messages of a PostgreSQL client, as bytes.

/// A frame as it goes over the wire.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], length_of(body).as_slice(), body].concat()
}

/// A frame whose length says something else than the truth.
pub fn lying_frame(tag: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

/// An untagged first packet.
pub fn first_packet(body: &[u8]) -> Vec<u8> {
    [length_of(body).as_slice(), body].concat()
}

/// A first packet for protocol 3.0 with these parameters.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_of_version(0x0003_0000, parameters)
}

/// A first packet for any protocol version.
pub fn startup_of_version(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([text(name), text(value)].concat());
    }
    body.push(0);
    first_packet(&body)
}

/// The request for TLS.
pub fn ssl_request() -> Vec<u8> {
    first_packet(&80_877_103_u32.to_be_bytes())
}

/// The request for GSSAPI encryption.
pub fn gss_request() -> Vec<u8> {
    first_packet(&80_877_104_u32.to_be_bytes())
}

/// The request to cancel what a session runs.
pub fn cancel_request(pid: u32, secret: &[u8]) -> Vec<u8> {
    first_packet(&[80_877_102_u32.to_be_bytes().as_slice(), &pid.to_be_bytes(), secret].concat())
}

/// A simple query.
pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &text(sql))
}

/// Prepares a statement; the server infers the types of its parameters.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[text(name), text(sql), vec![0, 0]].concat())
}

/// Binds a statement to parameters, all in text.
pub fn bind(portal: &str, statement: &str, parameters: &[&str]) -> Vec<u8> {
    let mut body = [text(portal), text(statement), vec![0, 0], count(parameters.len())].concat();
    for parameter in parameters {
        let length = u32::try_from(parameter.len()).expect("test values are small");
        body.extend([length.to_be_bytes().as_slice(), parameter.as_bytes()].concat());
    }
    body.extend([0, 0]);
    frame(b'B', &body)
}

/// Describes a statement (`S`) or a portal (`P`).
pub fn describe(what: u8, name: &str) -> Vec<u8> {
    frame(b'D', &[vec![what], text(name)].concat())
}

/// Runs a portal for at most so many rows; 0 is all.
pub fn execute(portal: &str, rows_max: u32) -> Vec<u8> {
    frame(b'E', &[text(portal), rows_max.to_be_bytes().to_vec()].concat())
}

/// Closes a statement (`S`) or a portal (`P`).
pub fn close(what: u8, name: &str) -> Vec<u8> {
    frame(b'C', &[vec![what], text(name)].concat())
}

/// Ends a pipeline's segment.
pub fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

/// Asks for what is there so far.
pub fn flush() -> Vec<u8> {
    frame(b'H', &[])
}

/// One piece of a COPY from the client.
pub fn copy_data(bytes: &[u8]) -> Vec<u8> {
    frame(b'd', bytes)
}

/// The good end of a COPY from the client.
pub fn copy_done() -> Vec<u8> {
    frame(b'c', &[])
}

/// The bad end of a COPY from the client.
pub fn copy_fail(reason: &str) -> Vec<u8> {
    frame(b'f', &text(reason))
}

/// The client leaves.
pub fn terminate() -> Vec<u8> {
    frame(b'X', &[])
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn count(number: usize) -> Vec<u8> {
    u16::try_from(number).expect("tests bind few values").to_be_bytes().to_vec()
}

fn length_of(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).expect("test packets are small").to_be_bytes()
}
