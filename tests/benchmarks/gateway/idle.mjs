// 1,000 streams through the gateway that say one event and then nothing: what
// they cost in memory and threads; and how long an event takes from the provider
// to the caller.
//   node idle.mjs <keyrotator-gateway> [streams]
import {spawn} from 'node:child_process';
import {readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {connect} from 'node:net';
import {createInterface} from 'node:readline';

const streams = Number(process.argv[3] ?? 1000);
const event = 'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n';
const open = [];
const provider = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    response.writeHead(200, {'content-type': 'text/event-stream'});
    response.write(event);
    open.push(response);
  });
});
await new Promise((resolve) => provider.listen(0, '127.0.0.1', 2048, resolve));

const gateway = spawn(process.argv[2], ['--port', '0', '--no-request-log',
  '--base-url', `http://127.0.0.1:${provider.address().port}/v1`],
{env: {...process.env, OPENAI_API_KEYS: 'sk-a,sk-b'}, stdio: ['ignore', 'ignore', 'pipe']});
const port = await new Promise((resolve) => createInterface({input: gateway.stderr}).on('line', (line) => {
  const found = /Listening on http:\S+:(\d+)\//.exec(line);
  if (found) resolve(Number(found[1]));
}));
const of = (name) => Number(new RegExp(name + ':\\s+(\\d+)').exec(readFileSync(`/proc/${gateway.pid}/status`, 'utf8'))[1]);
const before = of('VmRSS');

const body = '{"model":"gpt-4o","stream":true,"messages":[]}';
const callers = [];
const got = [];
for (let i = 0; i < streams; ++i) {
  const caller = connect(port, '127.0.0.1');
  caller.write(`POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  callers.push(caller);
  got.push(new Promise((resolve) => caller.on('data', (bytes) => { if (bytes.includes('data: ')) resolve(); })));
  if (i % 50 === 49) await Promise.all(got.slice(-50));
}
await Promise.all(got);
await new Promise((resolve) => setTimeout(resolve, 500));
console.log(`${streams} idle streams: ${((of('VmRSS')) / 1024).toFixed(0)} MB (${(before / 1024).toFixed(0)} MB before), ${of('Threads')} threads`);

// One event after the other, on the last stream.
const times = [];
const caller = callers.at(-1);
for (let i = 0; i < 500; ++i) {
  const start = process.hrtime.bigint();
  const came = new Promise((resolve) => caller.once('data', resolve));
  open.at(-1).write(event);
  await came;
  times.push(Number(process.hrtime.bigint() - start) / 1e6);
}
times.sort((a, b) => a - b);
console.log(`an event reaches the caller within ${times[250].toFixed(3)} ms (median), ${times[494].toFixed(3)} ms (p99), both ends in one process`);
gateway.kill('SIGKILL');
process.exit(0);
