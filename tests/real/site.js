// A site on Node's own http server: everything that a backend may do. `node site.js FD`: its listening socket is
// inherited, so that its port takes connections before it is up.
'use strict';
const crypto = require('crypto');
const http = require('http');
const zlib = require('zlib');

const seen = { connections: 0, requests: 0, continued: 0, left: 0, waiting: 0 };
const words = [];
const waiters = [];
const DROP = Buffer.alloc(16);

// Always the same bytes, which no compression and no mix-up of pieces leaves as they are.
const noise = (size) => crypto.createCipheriv('aes-128-ctr', DROP, DROP).update(Buffer.alloc(size));
const digest = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');

// The next word that somebody says with POST /next.
function word() {
  if (words.length) return Promise.resolve(words.shift());
  seen.waiting += 1;
  return new Promise((resolve) => waiters.push(resolve)).finally(() => (seen.waiting -= 1));
}

async function bodyOf(req) {
  const pieces = [];
  for await (const piece of req) pieces.push(piece);
  return Buffer.concat(pieces);
}

function told(res, value) {
  const text = JSON.stringify(value);
  res.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
  res.end(text);
}

const pages = {
  seen: (req, res) => told(res, seen),

  async next(req, res) {
    const text = String(await bodyOf(req));
    if (waiters.length) waiters.shift()(text);
    else words.push(text);
    res.writeHead(204).end();
  },

  bytes(req, res, size) {
    const body = noise(Number(size));
    res.writeHead(200, { 'Content-Length': body.length, 'X-Sha256': digest(body) });
    res.end(body);
  },

  chunked(req, res, size) {
    const body = noise(Number(size));
    res.writeHead(200, { 'X-Sha256': digest(body) });
    for (let at = 0; at < body.length; at += 7001) res.write(body.subarray(at, at + 7001));
    res.end();
  },

  // As HTTP/1.0 servers do: the end of the connection is the end of the answer.
  close_delimited(req, res, size) {
    const body = noise(Number(size));
    res.useChunkedEncodingByDefault = false;
    res.writeHead(200, { Connection: 'close', 'X-Sha256': digest(body) });
    res.write(body.subarray(0, 1000));
    res.end(body.subarray(1000));
  },

  closing(req, res) {
    res.writeHead(200, { Connection: 'close', 'Content-Length': 3 });
    res.end('bye');
  },

  gzip(req, res) {
    const body = zlib.gzipSync('styx '.repeat(20000));
    const fields = { 'Content-Encoding': 'gzip', 'Content-Type': 'text/plain', Vary: 'Accept-Encoding' };
    res.writeHead(200, { ...fields, 'Content-Length': body.length, 'X-Sha256': digest(body) });
    res.end(body);
  },

  status(req, res, code) {
    const body = [204, 304].includes(Number(code)) ? '' : `status ${code}\n`;
    res.writeHead(Number(code), { 'Set-Cookie': ['a=1', 'b=2'], ETag: '"x"' });
    res.end(body);
  },

  redirect(req, res) {
    res.writeHead(302, { Location: '/facts', 'Content-Length': 0 }).end();
  },

  async facts(req, res) {
    const body = await bodyOf(req);
    const { method, url, httpVersion, headers, rawHeaders, trailers } = req;
    told(res, { method, url, httpVersion, headers, rawHeaders, trailers, bytes: body.length, sha256: digest(body) });
  },

  sum: async (req, res) => res.end(digest(await bodyOf(req))),

  // The answer flows while the request still does.
  echo(req, res) {
    res.flushHeaders();
    req.pipe(res);
  },

  refused(req, res) {
    res.writeHead(413, { Connection: 'close', 'Content-Length': 9 });
    res.end('too much\n');
  },

  trailers(req, res) {
    const body = noise(50000);
    res.writeHead(200, { Trailer: 'X-Sum, X-Took' });
    res.write(body);
    res.addTrailers({ 'X-Sum': digest(body), 'X-Took': '7 ms' });
    res.end();
  },

  hints(req, res) {
    res.writeEarlyHints({ link: ['</a.css>; rel=preload; as=style', '</a.js>; rel=preload; as=script'] });
    res.writeProcessing();
    res.end('after hints');
  },

  poll: async (req, res) => res.end(await word()),

  // The first event at once, each other one when POST /next says it; "end" ends it.
  async events(req, res) {
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    for (let text = 'first'; text !== 'end'; text = await word()) res.write(`data: ${text}\n\n`);
    res.end();
  },
};

const strangers = new WeakSet();

function serve(req, res) {
  if (req.headers['x-styx-backend']) {
    seen.requests += 1;
    if (!strangers.has(req.socket)) seen.connections += 1;
    strangers.add(req.socket);
    res.on('close', () => (seen.left += res.writableFinished ? 0 : 1));
  }
  const [, name, argument] = req.url.split('?')[0].split('/');
  Promise.resolve((pages[name] || pages.facts)(req, res, argument)).catch((error) => res.destroy(error));
}

const server = http.createServer({ keepAliveTimeout: 60000 }, serve);

server.on('checkContinue', (req, res) => {
  if (!req.url.startsWith('/refused')) {
    seen.continued += 1;
    res.writeContinue();
  }
  serve(req, res);
});

// A protocol of its own: says "ready" in the same breath as the 101, then every byte back; to an end it says "bye".
server.on('upgrade', (req, socket) => {
  if (req.headers.upgrade !== 'echo') return socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nready\n');
  socket.on('data', (data) => socket.write(data));
  socket.on('end', () => socket.end('bye'));
  return socket.on('error', () => socket.destroy());
});

server.listen({ fd: Number(process.argv[2]) });
