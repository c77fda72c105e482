// Requests to the admin API, and its stream of server-sent events. EventSource cannot send the token, so the stream
// is read with fetch (HTML Standard, section 9.2: lines "event:", "data:", a blank line ends an event).

const FIRST_PAUSE = 500, LONGEST_PAUSE = 10_000;
const SILENT_AFTER = 8_000; // milliseconds; the edge sends an event each second
const MOST_BUFFERED = 4 << 20; // characters of one event

let token = sessionStorage.getItem("token") ?? "";

export const hasToken = () => token !== "";

export function useToken(text) {
  token = text;
  if (text) sessionStorage.setItem("token", text);
  else sessionStorage.removeItem("token");
}

export function request(path, { body, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (token) headers.Authorization = `Bearer ${token}`;
  const method = body === undefined ? "GET" : "POST";
  return fetch(path, { method, headers, signal, cache: "no-store", body: body === undefined ? null : JSON.stringify(body) });
}

// Why a request failed, as a sentence.
export async function reason(response) {
  try {
    return (await response.json()).detail ?? `status ${response.status}`;
  } catch {
    return `status ${response.status}`;
  }
}

// Calls `received(event, data)` for each event, and `changed(problem, status)` when the stream is lost ("" = it is
// there again). Connects again by itself; the returned function connects at once, with the present token.
export function stream(path, received, changed) {
  let pause = FIRST_PAUSE, timer = 0, current = null;

  async function connect() {
    clearTimeout(timer);
    const abort = new AbortController();
    current = abort;
    let watch = setTimeout(() => abort.abort(), SILENT_AFTER), problem = "the edge has closed the connection", status = 0;
    try {
      const response = await request(path, { accept: "text/event-stream", signal: abort.signal });
      status = response.status;
      if (!response.ok) {
        problem = await reason(response);
      } else {
        changed("", 200);
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let rest = ""; ; ) {
          const { value, done } = await reader.read();
          if (done) break;
          clearTimeout(watch);
          watch = setTimeout(() => abort.abort(), SILENT_AFTER);
          const blocks = (rest + value).split("\n\n");
          rest = blocks.pop();
          if (rest.length > MOST_BUFFERED) throw new Error("an event is too large");
          for (const block of blocks) dispatch(block);
          pause = FIRST_PAUSE;
        }
      }
    } catch (error) {
      problem = error.name === "AbortError" ? "nothing was heard from the edge" : "the edge cannot be reached";
    }
    clearTimeout(watch);
    if (current !== abort) return; // another connection has replaced it
    changed(problem, status);
    if (status !== 401) timer = setTimeout(connect, pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }

  function dispatch(block) {
    let event = "message", data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event: ")) event = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (data) received(event, JSON.parse(data));
  }

  connect();
  return () => {
    pause = FIRST_PAUSE;
    current?.abort();
    current = null;
    connect();
  };
}
