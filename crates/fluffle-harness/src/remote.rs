//! Commands to the node: `rabbitmqctl`, and a faster way for frequent operations.
//!
//! `rabbitmqctl` boots a virtual machine of its own for every command (0.4 s on an idle machine, seconds on a busy
//! one). Therefore the node also evaluates Erlang expressions for its owner, on a Unix socket inside its private
//! folder, which takes a millisecond or two. The folder belongs to the node's account, and no other account can enter
//! it.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    HarnessError,
    install::{Installation, run_as},
    layout::Layout,
    wait::output_within,
};

const EVAL_LIMIT: Duration = Duration::from_secs(30);
const CTL_LIMIT: Duration = Duration::from_secs(90);
const ANSWER_LIMIT: u64 = 64 << 20;

/// The Erlang expression that the node runs at its start. It listens on the socket and evaluates each request in a
/// process of its own. Requests and answers are framed by a four-byte length. An answer starts with `ok ` or `error `.
pub(crate) fn listener_expression(socket: &Path) -> String {
    format!(
        r#"spawn(fun() ->
  {{ok, L}} = gen_tcp:listen(0,
    [{{ifaddr, {{local, {path}}}}}, binary, {{packet, 4}}, {{active, false}}, {{backlog, 128}}]),
  (fun Accept() ->
    {{ok, S}} = gen_tcp:accept(L),
    Worker = spawn(fun() ->
      receive go -> ok end,
      {{ok, Question}} = gen_tcp:recv(S, 0, 5000),
      Answer = try
        {{ok, Tokens, _}} = erl_scan:string(unicode:characters_to_list(Question)),
        {{ok, Expressions}} = erl_parse:parse_exprs(Tokens),
        {{value, Value, _}} = erl_eval:exprs(Expressions, []),
        [<<"ok ">>, Value]
      catch Class:Reason -> [<<"error ">>, io_lib:format("~0p", [{{Class, Reason}}])]
      end,
      gen_tcp:send(S, Answer),
      gen_tcp:close(S)
    end),
    ok = gen_tcp:controlling_process(S, Worker),
    Worker ! go,
    Accept()
  end)()
end)."#,
        path = binary(&socket.to_string_lossy()),
    )
}

/// Any text as an Erlang binary literal. The text cannot end the literal early.
pub(crate) fn binary(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    format!("<<{}>>", bytes.join(","))
}

/// Evaluates `expression`, whose value must be iodata, inside the node.
pub(crate) fn eval(layout: &Layout, operation: &'static str, expression: &str) -> Result<String, HarnessError> {
    eval_within(layout, EVAL_LIMIT, operation, expression)
}

/// Like [`eval`], for at most `limit`.
pub(crate) fn eval_within(
    layout: &Layout,
    limit: Duration,
    operation: &'static str,
    expression: &str,
) -> Result<String, HarnessError> {
    let answer = ask(&layout.control_socket(), limit, &format!("{expression}."));
    let answer = answer.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => HarnessError::NotRunning { operation },
        _ => HarnessError::io(format!("{operation} through the node's control socket"))(source),
    })?;
    if let Some(value) = answer.strip_prefix("ok ") {
        return Ok(value.to_owned());
    }
    let reason = answer.strip_prefix("error ").unwrap_or(&answer).to_owned();
    Err(HarnessError::Refused { operation, reason })
}

fn ask(socket: &Path, limit: Duration, question: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let length = u32::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(question.as_bytes())?;
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let length = u64::from(u32::from_be_bytes(header));
    if length > ANSWER_LIMIT {
        return Err(io::Error::other(format!("an answer of {length} bytes is over the limit of {ANSWER_LIMIT}")));
    }
    let mut answer = Vec::new();
    stream.take(length).read_to_end(&mut answer)?;
    String::from_utf8(answer).map_err(io::Error::other)
}

/// Runs `rabbitmqctl` against the node and returns what it printed.
pub(crate) fn ctl(layout: &Layout, installation: &Installation, arguments: &[&str]) -> Result<String, HarnessError> {
    let command_line = arguments.join(" ");
    let mut command = Command::new(&installation.ctl);
    command
        .env_clear()
        .envs(layout.environment())
        // The harness starts a node's epmd and ends it with the node, so a command must not start another one.
        .env("RABBITMQ_CTL_ERL_ARGS", "-start_epmd false +S 1:1")
        .args(["--quiet", "--node", &layout.name])
        .args(arguments)
        .current_dir(&layout.folder)
        .stdin(Stdio::null());
    run_as(&mut command, installation.account);
    let output = output_within(&mut command, CTL_LIMIT, &format!("rabbitmqctl {command_line}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(HarnessError::Ctl { command: command_line, output: format!("{stdout}{stderr}").trim().to_owned() })
}
