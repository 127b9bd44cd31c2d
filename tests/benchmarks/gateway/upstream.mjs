// A provider with three keys: sk-dead, sk-limited (5 requests a minute) and any
// other, which serves.
//   node upstream.mjs <port>
import {createServer} from 'node:http';

let left = 5;
setInterval(() => { left = 5; }, 60000);
const chunk = (delta, finish_reason = null) =>
  `data: ${JSON.stringify({id: 'c', object: 'chat.completion.chunk', created: 0, model: 'gpt-4o',
    choices: [{index: 0, delta, finish_reason}]})}\n\n`;

createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const fail = (status, code, more = {}) => {
      response.writeHead(status, {'content-type': 'application/json', ...more});
      response.end(JSON.stringify({error: {message: code, type: code, code}}));
    };
    const key = request.headers.authorization;
    if (key === 'Bearer sk-dead') return fail(401, 'invalid_api_key');
    if (key === 'Bearer sk-limited' && left-- <= 0)
      return fail(429, 'rate_limit_exceeded', {'retry-after': '60'});
    if (!JSON.parse(Buffer.concat(parts)).stream) {
      response.writeHead(200, {'content-type': 'application/json'});
      return response.end(JSON.stringify({id: 'c', object: 'chat.completion', created: 0, model: 'gpt-4o',
        choices: [{index: 0, message: {role: 'assistant', content: 'hello'}, finish_reason: 'stop'}]}));
    }
    response.writeHead(200, {'content-type': 'text/event-stream'});
    let words = 10;
    const timer = setInterval(() => {
      if (words-- > 0) return response.write(chunk({content: 'hello '}));
      clearInterval(timer);
      response.end(chunk({}, 'stop') + 'data: [DONE]\n\n');
    }, 20);
  });
}).listen(Number(process.argv[2]), '127.0.0.1');
