// What Node's two HTTP clients do. `node client.js URL ACTION`: prints JSON, one line for each thing that it tells.
'use strict';
const crypto = require('crypto');
const http = require('http');

const [, , site, action] = process.argv;
const digest = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');
const tell = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

function asked(path, { before, body, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const req = http.request(site + path, options);
    req.on('error', reject);
    req.on('response', async (res) => {
      const pieces = [];
      for await (const piece of res) pieces.push(piece);
      resolve({ req, res, text: Buffer.concat(pieces) });
    });
    if (before) before(req);
    else req.end(body);
  });
}

const actions = {
  async many() {
    const fetched = async (_, n) => {
      const answer = await fetch(`${site}/${n % 2 ? 'bytes' : 'chunked'}/${1000 * n}`);
      return digest(Buffer.from(await answer.arrayBuffer())) === answer.headers.get('x-sha256');
    };
    tell(await Promise.all(Array.from({ length: 40 }, fetched)));
  },

  async upload() {
    const hash = crypto.createHash('sha256');
    let left = 40;
    const body = new ReadableStream({
      pull(controller) {
        if (!left) return controller.close();
        left -= 1;
        const piece = crypto.randomBytes(50000);
        hash.update(piece);
        return controller.enqueue(piece);
      },
    });
    const answer = await fetch(`${site}/facts`, { method: 'POST', body, duplex: 'half' });
    tell({ status: answer.status, sent: hash.digest('hex'), got: await answer.json() });
  },

  async download() {
    const answer = await fetch(`${site}/events`);
    for await (const piece of answer.body) tell(Buffer.from(piece).toString());
    tell('the end');
  },

  async abort() {
    const giving = new AbortController();
    const answer = await fetch(`${site}/events`, { signal: giving.signal });
    await answer.body.getReader().read();
    giving.abort();
    tell((await fetch(`${site}/status/200`)).status);
  },

  async trailers() {
    const headers = { TE: 'trailers', Connection: 'TE' };
    const down = await asked('/trailers', { headers });
    tell({ announced: down.res.headers.trailer, trailers: down.res.trailers, sha256: digest(down.text) });
    const before = (req) => {
      req.setHeader('Trailer', 'X-Sum');
      req.write('one ');
      req.write('two');
      req.addTrailers({ 'X-Sum': 'five words', Cookie: 'a=b' });
      req.end();
    };
    tell(JSON.parse((await asked('/facts', { method: 'POST', before })).text));
  },

  async hints() {
    const heard = [];
    const before = (req) => {
      req.on('information', ({ statusCode, headers }) => heard.push([statusCode, headers.link || '']));
      req.end();
    };
    const { res, text } = await asked('/hints', { before });
    tell({ heard, status: res.statusCode, text: text.toString() });
  },

  async expect() {
    const body = crypto.randomBytes(2000000);
    let waited = false;
    const before = (req) => {
      req.on('continue', () => {
        waited = true;
        req.end(body);
      });
      req.flushHeaders();
    };
    const headers = { Expect: '100-continue', 'Content-Length': body.length };
    const { text } = await asked('/facts', { method: 'PUT', headers, before });
    tell({ waited, sent: digest(body), got: JSON.parse(text) });
  },

  async agent() {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const reused = [];
    for (const method of ['GET', 'HEAD', 'POST', 'GET', 'PUT', 'DELETE']) {
      const { req } = await asked('/bytes/100000', { agent, method, body: method === 'POST' ? 'a=1' : undefined });
      reused.push(req.reusedSocket);
    }
    agent.destroy();
    tell(reused);
  },

  async upgrade() {
    const req = http.request(`${site}/`, { headers: { Connection: 'Upgrade', Upgrade: 'echo' } });
    req.end();
    const [res, socket, head] = await new Promise((resolve, reject) => {
      req.on('upgrade', (...all) => resolve(all));
      req.on('response', ({ statusCode }) => reject(new Error(`refused: ${statusCode}`)));
      req.on('error', reject);
    });
    tell({ status: res.statusCode, upgrade: res.headers.upgrade });
    const bytes = crypto.randomBytes(1000000);
    const pieces = [head];
    socket.on('data', (data) => pieces.push(data));
    socket.end(bytes);
    await new Promise((resolve) => socket.on('end', resolve));
    const got = Buffer.concat(pieces);
    const middle = got.subarray(6, -3);
    tell({ first: String(got.subarray(0, 6)), same: middle.equals(bytes), last: String(got.subarray(-3)) });
  },
};

actions[action]().then(() => process.exit(0));
