// The program itself: what it does on signals, and what is lost when it is killed.
//
//   GATEWAY=path/to/keyrotator-gateway node --test program_test.mjs

import assert from 'node:assert/strict';
import {spawn, spawnSync} from 'node:child_process';
import {createInterface} from 'node:readline';
import test from 'node:test';

const BODY = JSON.stringify({model: 'gpt-4o', stream: true, messages: []});

function start(port = 0) {
  const program = spawn(process.env.GATEWAY, ['--port', String(port), '--fake'],
    {stdio: ['ignore', 'pipe', 'pipe']});
  const log = [];
  createInterface({input: program.stdout}).on('line', (line) => log.push(JSON.parse(line)));
  const ended = new Promise((resolve) => program.on('exit', (code, signal) => resolve(code ?? signal)));
  return new Promise((resolve, reject) => {
    ended.then(() => reject(new Error('the gateway did not start')));
    createInterface({input: program.stderr}).on('line', (line) => {
      const found = /Listening on (http:\S+:(\d+))\//.exec(line);
      if (found) resolve({program, log, ended, url: found[1], port: Number(found[2])});
    });
  });
}

const ask = (url) => fetch(url + '/v1/chat/completions',
  {method: 'POST', headers: {'content-type': 'application/json'}, body: BODY});

async function until(condition) {
  for (let i = 0; i < 400 && !condition(); ++i) await new Promise((resolve) => setTimeout(resolve, 25));
  assert.ok(condition());
}

test('SIGTERM lets a stream end, then the program', async () => {
  const {program, log, ended, url} = await start();
  const answer = await ask(url);
  program.kill('SIGTERM');
  await until(() => log.some((line) => line.event === 'draining'));
  await assert.rejects(ask(url));
  assert.ok((await answer.text()).endsWith('data: [DONE]\n\n'));
  assert.equal(await ended, 0);
  assert.equal(log.at(-1).event, 'stopped');
});

test('SIGHUP loads the keys again', async () => {
  const {program, log, ended} = await start();
  program.kill('SIGHUP');
  await until(() => log.some((line) => line.event === 'reloaded'));
  program.kill('SIGINT');
  assert.equal(await ended, 0);
});

test('killed and started again under load, it loses what was in flight alone', async () => {
  let gateway = await start();
  const {port, url} = gateway;
  let running = true, in_flight = 0, served = 0, lost = 0;
  const callers = Array.from({length: 40}, async () => {
    while (running) {
      ++in_flight;
      try {
        (await (await ask(url)).text()).endsWith('[DONE]\n\n') ? ++served : ++lost;
      } catch (error) {
        // Nobody listens for a moment: that is no request that was lost.
        if (error.cause?.code !== 'ECONNREFUSED') ++lost;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      --in_flight;
    }
  });
  await until(() => served > 100);
  const most = in_flight;
  gateway.program.kill('SIGKILL');
  assert.equal(await gateway.ended, 'SIGKILL');
  gateway = await start(port);
  const before = served;
  await until(() => served > before + 100);
  running = false;
  await Promise.all(callers);
  assert.ok(lost <= most, `${lost} lost, ${most} were in flight`);
  gateway.program.kill('SIGTERM');
  assert.equal(await gateway.ended, 0);
});

test('what cannot work is told at the start', () => {
  const run = (...options) => spawnSync(process.env.GATEWAY, options, {encoding: 'utf8', timeout: 20000});
  const open = run('--fake', '--host', '0.0.0.0', '--port', '0');
  assert.equal(open.status, 1);
  assert.match(open.stderr, /--token-file/);
  const missing = run('--config', '/nowhere/providers.yaml');
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /\/nowhere\/providers\.yaml/);
  assert.notEqual(run('--drain', 'soon').status, 0);
  assert.notEqual(run('--misspelt').status, 0);
  assert.equal(run('--help').status, 0);
});
