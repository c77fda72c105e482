// What Node's HTTP/2 client does. `node client_h2.js URL CA ACTION`: prints JSON, one line for each thing that it tells.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const http2 = require('http2');

const [, , site, ca, action] = process.argv;
// Not every resolver knows names below localhost.
const here = { address: '127.0.0.1', family: 4 };
const lookup = (_, { all }, found) => (all ? found(null, [here]) : found(null, here.address, here.family));
const session = http2.connect(site, { ca: fs.readFileSync(ca), lookup });
const digest = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');
const tell = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
session.on('error', (error) => tell(`session: ${error}`));

function begun(fields, options) {
  const stream = session.request(fields, options);
  const answer = { stream, interim: [], trailers: {} };
  stream.on('headers', (headers) => answer.interim.push(headers[':status']));
  stream.on('trailers', (headers) => Object.assign(answer.trailers, headers));
  answer.head = new Promise((resolve, reject) => {
    stream.on('response', resolve);
    stream.on('error', reject);
  });
  answer.body = new Promise((resolve, reject) => {
    const pieces = [];
    stream.on('data', (piece) => pieces.push(piece));
    stream.on('end', () => resolve(Buffer.concat(pieces)));
    stream.on('error', reject);
  });
  return answer;
}

async function whole(fields, send = (stream) => stream.end(), options = {}) {
  const answer = begun(fields, options);
  send(answer.stream);
  const head = await answer.head;
  return { head, body: await answer.body, interim: answer.interim, trailers: { ...answer.trailers } };
}

const actions = {
  // As many at once as a page has, on one connection.
  async many() {
    const fetched = async (_, n) => {
      const { head, body } = await whole({ ':path': `/${n % 2 ? 'bytes' : 'chunked'}/${3000 * n}` });
      return digest(body) === head['x-sha256'];
    };
    tell(await Promise.all(Array.from({ length: 80 }, fetched)));
  },

  async upload() {
    const sent = crypto.randomBytes(3000000);
    const { head, body } = await whole({ ':method': 'POST', ':path': '/facts' }, (stream) => stream.end(sent));
    tell({ status: head[':status'], same: JSON.parse(body).sha256 === digest(sent) });
  },

  async trailers() {
    const send = (stream) => {
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '3' }));
      stream.end('abc');
    };
    const { body } = await whole({ ':method': 'POST', ':path': '/facts' }, send, { waitForTrailers: true });
    const { trailers } = await whole({ ':path': '/trailers', te: 'trailers' });
    tell({ sent: JSON.parse(body).trailers, got: trailers });
  },

  // One stream is given up; the session goes on.
  async abort() {
    const { stream, head } = begun({ ':path': '/events' });
    await head;
    stream.on('error', () => {});
    stream.close(http2.constants.NGHTTP2_CANCEL);
    tell((await whole({ ':path': '/status/200' })).head[':status']);
  },

  async ping() {
    await whole({ ':path': '/status/200' });
    await new Promise((resolve) => session.ping(() => resolve()));
    tell({ streams: session.remoteSettings.maxConcurrentStreams, connect: session.remoteSettings.enableConnectProtocol });
  },

  // RFC 8441: one masked text frame, and the close frame.
  async websocket() {
    if (!session.remoteSettings.enableConnectProtocol)
      await new Promise((resolve) => session.once('remoteSettings', resolve));
    const fields = { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws', 'sec-websocket-version': '13' };
    const { stream, head } = begun({ ...fields, 'sec-websocket-protocol': 'chat' });
    const { ':status': status, 'sec-websocket-protocol': protocol } = await head;
    const mask = Buffer.from([1, 2, 3, 4]);
    const frame = (opcode, payload) =>
      Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length]), mask, payload.map((byte, n) => byte ^ mask[n % 4])]);
    const heard = new Promise((resolve) => stream.once('data', resolve));
    stream.write(frame(1, Buffer.from('hello')));
    tell({ status, protocol, heard: (await heard).subarray(2).toString() });
    const ended = new Promise((resolve) => stream.once('close', resolve));
    stream.end(frame(8, Buffer.from([0x0b, 0xb9])));
    await ended;
    tell(stream.rstCode);
  },
};

actions[action]().then(() => session.close(), (error) => {
  tell(`failed: ${error}`);
  session.destroy();
});
