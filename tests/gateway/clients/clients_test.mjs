// Clients that nobody here wrote, each against a gateway whose provider has one
// dead, one spent, one limited and one good key: none of them sees an error.
//
//   GATEWAY=path/to/keyrotator-gateway node --test clients_test.mjs

import assert from 'node:assert/strict';
import {execFile, spawn} from 'node:child_process';
import {createServer} from 'node:http';
import {promisify} from 'node:util';
import {createInterface} from 'node:readline';
import test from 'node:test';

import {createOpenAICompatible} from '@ai-sdk/openai-compatible';
import {ChatOpenAI, OpenAIEmbeddings} from '@langchain/openai';
import {embedMany, generateText, streamText, tool} from 'ai';
import OpenAI, {APIUserAbortError, toFile} from 'openai';
import {z} from 'zod';

const ANSWER = 'Hello from the fake provider.';
const MESSAGES = [{role: 'user', content: 'hi'}];
const MODEL = 'gpt-4o';

// A gateway for one test, with fresh keys.
async function startGateway(t, ...more) {
  const environment = {...process.env};
  for (const name of Object.keys(environment))
    if (name.startsWith('OPENAI_')) delete environment[name];
  const fake = more.includes('--base-url') ? [] : ['--fake'];
  if (fake.length === 0) environment.OPENAI_API_KEYS = 'sk-clients';
  const program = spawn(process.env.GATEWAY, ['--port', '0', ...fake, ...more],
    {env: environment, stdio: ['ignore', 'pipe', 'pipe']});
  const log = [];
  createInterface({input: program.stdout}).on('line', (line) => log.push(JSON.parse(line)));
  const url = await new Promise((resolve, reject) => {
    program.on('exit', () => reject(new Error('the gateway did not start')));
    createInterface({input: program.stderr}).on('line', (line) => {
      const found = /Listening on (http:\S+)\//.exec(line);
      if (found) resolve(found[1]);
    });
  });
  t.after(() => new Promise((resolve) => {
    program.removeAllListeners('exit');
    program.on('exit', resolve);
    program.kill('SIGTERM');
    program.kill('SIGTERM');
  }));
  return {url, log, baseURL: url + '/v1'};
}

// That the gateway answered so many requests, and all of them well. Its log comes
// by a pipe, so it may be a moment late.
async function served(log, least) {
  let requests;
  for (let i = 0; i < 200; ++i) {
    requests = log.filter((line) => line.event === 'request');
    if (requests.length >= least) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.ok(requests.length >= least, `${requests.length} requests`);
  for (const request of requests) assert.ok(request.status < 300, JSON.stringify(request));
}

test('openai', async (t) => {
  const {baseURL, log} = await startGateway(t);
  const client = new OpenAI({baseURL, apiKey: 'any', maxRetries: 0});

  await t.test('chat', async () => {
    const chat = await client.chat.completions.create({model: MODEL, messages: MESSAGES});
    assert.equal(chat.choices[0].message.content, ANSWER);
  });
  await t.test('stream', async () => {
    let text = '';
    for await (const chunk of await client.chat.completions.create(
      {model: MODEL, messages: MESSAGES, stream: true})) text += chunk.choices[0]?.delta?.content ?? '';
    assert.equal(text, ANSWER);
  });
  await t.test('tools', async () => {
    const tools = [{type: 'function', function: {name: 'weather', parameters: {type: 'object'}}}];
    const chat = await client.chat.completions.create({model: MODEL, messages: MESSAGES, tools});
    assert.equal(chat.choices[0].message.tool_calls[0].function.name, 'weather');
    const run = client.chat.completions.stream({model: MODEL, messages: MESSAGES, tools});
    const whole = await run.finalChatCompletion();
    assert.equal(whole.choices[0].message.tool_calls[0].function.name, 'weather');
  });
  await t.test('responses', async () => {
    const response = await client.responses.create({model: MODEL, input: 'hi'});
    assert.equal(response.output_text, ANSWER);
    let text = '', end = '';
    for await (const event of await client.responses.create({model: MODEL, input: 'hi', stream: true})) {
      if (event.type === 'response.output_text.delta') text += event.delta;
      end = event.type;
    }
    assert.equal(text, ANSWER);
    assert.equal(end, 'response.completed');
  });
  await t.test('embeddings', async () => {
    const vectors = await client.embeddings.create({model: 'e', input: ['a', 'b']});
    assert.deepEqual(Array.from(vectors.data[1].embedding), [0.25, 0.5, 0.75]);
  });
  await t.test('models', async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.deepEqual(ids, ['gpt-4o', 'gpt-4o-mini']);
    assert.equal((await client.models.retrieve('gpt-4o')).id, 'gpt-4o');
  });
  await t.test('files', async () => {
    const bytes = Buffer.alloc(3 << 20, 'line\n');
    const file = await client.files.create({file: await toFile(bytes, 'a.jsonl'), purpose: 'batch'});
    assert.ok(file.bytes > bytes.length);
    assert.equal((await client.files.retrieve(file.id)).id, file.id);
    const content = Buffer.from(await (await client.files.content(file.id)).arrayBuffer());
    assert.equal(content.length, 259);
    assert.equal(content[258], 255);
    assert.equal((await client.files.list()).data.length, 1);
    assert.equal((await client.files.delete(file.id)).deleted, true);
  });
  await t.test('audio', async () => {
    const file = await toFile(Buffer.alloc(1 << 20, 7), 'a.mp3');
    const text = await client.audio.transcriptions.create({model: 'whisper-1', file});
    assert.equal(text.text, ANSWER);
    const speech = await client.audio.speech.create({model: 'tts-1', voice: 'alloy', input: 'hi'});
    assert.equal(Buffer.from(await speech.arrayBuffer()).subarray(0, 3).toString(), 'ID3');
  });
  await t.test('images', async () => {
    const made = await client.images.generate({prompt: 'a dot', model: 'dall-e-3'});
    assert.ok(made.data[0].b64_json);
    const image = await toFile(Buffer.from(made.data[0].b64_json, 'base64'), 'dot.png', {type: 'image/png'});
    assert.ok((await client.images.edit({image, prompt: 'larger', model: 'gpt-image-1'})).data[0].b64_json);
  });
  await t.test('moderations', async () => {
    assert.equal((await client.moderations.create({input: 'hi'})).results[0].flagged, false);
  });
  await t.test('a picture of 5 MB', async () => {
    const url = 'data:image/png;base64,' + 'A'.repeat(5 << 20);
    const chat = await client.chat.completions.create({model: MODEL,
      messages: [{role: 'user', content: [{type: 'image_url', image_url: {url}}]}]});
    assert.equal(chat.choices[0].message.content, ANSWER);
  });
  await t.test('200 streams at once', async () => {
    const texts = await Promise.all(Array.from({length: 200}, async () => {
      let text = '';
      for await (const chunk of await client.chat.completions.create(
        {model: MODEL, messages: MESSAGES, stream: true})) text += chunk.choices[0]?.delta?.content ?? '';
      return text;
    }));
    assert.equal(texts.filter((text) => text === ANSWER).length, 200);
  });
  await served(log, 220);
});

test('openai: a request that is aborted', async (t) => {
  const {baseURL, log} = await startGateway(t);
  const client = new OpenAI({baseURL, apiKey: 'any', maxRetries: 0});
  const stream = await client.chat.completions.create({model: MODEL, messages: MESSAGES, stream: true});
  for await (const chunk of stream) {
    assert.ok(chunk);
    stream.controller.abort();
    break;
  }
  const controller = new AbortController();
  const call = client.chat.completions.create({model: MODEL, messages: MESSAGES, stream: true},
    {signal: controller.signal});
  controller.abort();
  await assert.rejects(call, APIUserAbortError);
  // It serves the next.
  assert.ok(await client.models.list());
  for (let i = 0; i < 200 && !log.some((line) => line.outcome === 'gone'); ++i)
    await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(log.some((line) => line.outcome === 'gone'));
});

test('openai: errors it understands', async (t) => {
  // A provider that limits every key, and one whose streams break off.
  let limited = true;
  const provider = createServer((request, response) => {
    if (limited) {
      response.writeHead(429, {'retry-after': '1000', 'content-type': 'application/json'});
      return response.end('{"error":{"code":"rate_limit_exceeded"}}');
    }
    response.writeHead(200, {'content-type': 'text/event-stream'});
    response.write('data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n');
    setTimeout(() => response.destroy(), 50);
  });
  await new Promise((resolve) => provider.listen(0, '127.0.0.1', resolve));
  t.after(() => provider.closeAllConnections?.());
  t.after(() => provider.close());
  const upstream = `http://127.0.0.1:${provider.address().port}/v1`;
  const {baseURL} = await startGateway(t, '--base-url', upstream);
  const client = new OpenAI({baseURL, apiKey: 'any', maxRetries: 0});
  await assert.rejects(client.chat.completions.create({model: MODEL, messages: MESSAGES}), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.equal(error.code, 'all_keys_cooling');
    assert.ok(Number(error.headers.get('retry-after-ms')) > 900000);
    return true;
  });
  limited = false;
  let text = '';
  await assert.rejects(async () => {
    for await (const chunk of await client.chat.completions.create(
      {model: 'another', messages: MESSAGES, stream: true})) text += chunk.choices[0].delta.content;
  }, (error) => {
    assert.ok(error instanceof OpenAI.APIError);
    assert.equal(error.code, 'stream_cut');
    return true;
  });
  assert.equal(text, 'half');
});

test('ai, with @ai-sdk/openai-compatible', async (t) => {
  const {baseURL, log} = await startGateway(t);
  const provider = createOpenAICompatible({name: 'gateway', baseURL, apiKey: 'any'});
  const model = provider(MODEL);
  for (let i = 0; i < 8; ++i)
    assert.equal((await generateText({model, prompt: 'hi', maxRetries: 0})).text, ANSWER);
  let text = '';
  for await (const part of streamText({model, prompt: 'hi', maxRetries: 0}).textStream) text += part;
  assert.equal(text, ANSWER);
  const weather = tool({description: 'The weather', inputSchema: z.object({})});
  const call = await generateText({model, prompt: 'hi', tools: {weather}, maxRetries: 0});
  assert.equal(call.toolCalls[0].toolName, 'weather');
  const vectors = await embedMany({model: provider.textEmbeddingModel('e'), values: ['a', 'b'], maxRetries: 0});
  assert.deepEqual(vectors.embeddings[1], [0.25, 0.5, 0.75]);
  await served(log, 11);
});

test('@langchain/openai', async (t) => {
  const {baseURL, log} = await startGateway(t);
  const options = {apiKey: 'any', maxRetries: 0, configuration: {baseURL}};
  const chat = new ChatOpenAI({model: MODEL, ...options});
  for (let i = 0; i < 8; ++i) assert.equal((await chat.invoke('hi')).content, ANSWER);
  let text = '';
  for await (const chunk of await chat.stream('hi')) text += chunk.content;
  assert.equal(text, ANSWER);
  const call = await chat.bindTools([{type: 'function',
    function: {name: 'weather', description: 'w', parameters: {type: 'object', properties: {}}}}]).invoke('hi');
  assert.equal(call.tool_calls[0].name, 'weather');
  const embeddings = new OpenAIEmbeddings({model: 'e', ...options});
  assert.equal((await embeddings.embedDocuments(['a', 'b'])).length, 2);
  await served(log, 11);
});

test('curl', async (t) => {
  const {baseURL, log} = await startGateway(t);
  const curl = async (...more) => (await promisify(execFile)('curl',
    ['-sS', '--fail', '-H', 'Authorization: Bearer any', ...more])).stdout;
  const body = JSON.stringify({model: MODEL, messages: MESSAGES});
  for (let i = 0; i < 8; ++i) {
    const chat = JSON.parse(await curl(baseURL + '/chat/completions', '-H', 'Content-Type: application/json', '-d', body));
    assert.equal(chat.choices[0].message.content, ANSWER);
  }
  const stream = await curl('-N', baseURL + '/chat/completions', '-H', 'Content-Type: application/json',
    '-d', JSON.stringify({model: MODEL, messages: MESSAGES, stream: true}));
  assert.ok(stream.endsWith('data: [DONE]\n\n'));
  const form = await curl(baseURL + '/audio/transcriptions', '-F', 'model=whisper-1', '-F', 'file=@' + process.env.GATEWAY);
  assert.equal(JSON.parse(form).text, ANSWER);
  await served(log, 10);
});
