// The gateway's page in a real browser: what it shows is what /status says, the
// buttons are there with the admin token alone, nothing is written to the
// console, and it fits a phone.
//
//   GATEWAY=path/to/keyrotator-gateway [SCREENSHOT=page.png] node --test page_test.mjs

import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {createInterface} from 'node:readline';
import test from 'node:test';

const TOKEN = 'an-admin-token-of-the-tests';

function stop(program) {
  return new Promise((resolve) => {
    if (program.exitCode !== null || program.signalCode !== null) return resolve();
    program.on('exit', resolve);
    program.kill('SIGKILL');
  });
}

async function startGateway(t, folder) {
  writeFileSync(join(folder, 'admin'), TOKEN + '\n', {mode: 0o600});
  const program = spawn(process.env.GATEWAY,
    ['--port', '0', '--fake', '--admin-token-file', join(folder, 'admin')],
    {stdio: ['ignore', 'ignore', 'pipe']});
  t.after(() => stop(program));
  return new Promise((resolve, reject) => {
    program.on('exit', () => reject(new Error('the gateway did not start')));
    createInterface({input: program.stderr}).on('line', (line) => {
      const found = /Listening on (http:\S+)\//.exec(line);
      if (found) resolve(found[1]);
    });
  });
}

// A browser, spoken to by the DevTools protocol over a pipe: messages end with a
// NUL.
class Browser {
  constructor(t, folder) {
    this.program = spawn('chromium', ['--headless=new', '--no-sandbox', '--disable-gpu',
      '--disable-dev-shm-usage', '--no-first-run', '--hide-scrollbars', '--remote-debugging-pipe',
      '--user-data-dir=' + join(folder, 'profile'), 'about:blank'],
    {stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe']});
    t.after(() => stop(this.program));
    this.answers = new Map();
    this.messages = [];  // of the console, and exceptions
    this.next = 0;
    let text = '';
    this.program.stdio[4].on('data', (bytes) => {
      text += bytes;
      for (let end; (end = text.indexOf('\0')) >= 0; text = text.slice(end + 1))
        this.take(JSON.parse(text.slice(0, end)));
    });
    this.program.stdio[3].on('error', () => {});
  }

  take(message) {
    if (message.id) {
      const {resolve, reject} = this.answers.get(message.id);
      return message.error ? reject(new Error(message.error.message)) : resolve(message.result);
    }
    if (message.method === 'Runtime.consoleAPICalled')
      this.messages.push(message.params.args.map((arg) => arg.value ?? arg.description).join(' '));
    if (message.method === 'Runtime.exceptionThrown')
      this.messages.push(message.params.exceptionDetails.exception?.description ?? message.params.exceptionDetails.text);
    if (message.method === 'Log.entryAdded')
      this.messages.push(message.params.entry.text + ' ' + (message.params.entry.url ?? ''));
  }

  send(method, params = {}) {
    const id = ++this.next;
    this.program.stdio[3].write(JSON.stringify({id, method, params, sessionId: this.session}) + '\0');
    return new Promise((resolve, reject) => this.answers.set(id, {resolve, reject}));
  }

  async open(url) {
    const {targetId} = await this.send('Target.createTarget', {url: 'about:blank'});
    ({sessionId: this.session} = await this.send('Target.attachToTarget', {targetId, flatten: true}));
    for (const domain of ['Page', 'Runtime', 'Log', 'Accessibility']) await this.send(domain + '.enable');
    await this.send('Page.navigate', {url});
  }

  async evaluate(expression) {
    const {result, exceptionDetails} = await this.send('Runtime.evaluate',
      {expression, returnByValue: true, awaitPromise: true});
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  async until(expression) {
    for (let i = 0; i < 400; ++i) {
      if (await this.evaluate(expression)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error('it does not come: ' + expression);
  }

  async screenshot(path) {
    const {data} = await this.send('Page.captureScreenshot', {format: 'png'});
    writeFileSync(path, Buffer.from(data, 'base64'));
  }
}

// What the page shows of each key.
const SHOWN = `[...document.querySelectorAll('tr[data-key]')].map((row) => {
  const text = (label) => row.querySelector('td[data-label="' + label + '"]').textContent;
  return {name: text('key'), state: row.querySelector('.state').textContent,
    in_flight: Number(text('in flight')), successes: Number(text('served')),
    rate_limits: Number(text('limited')), failures: Number(text('failed'))};
})`;

test('the page', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'keyrotator-page-'));
  t.after(() => rmSync(folder, {recursive: true, force: true, maxRetries: 10, retryDelay: 100}));
  const url = await startGateway(t, folder);
  const ask = async (count) => {
    for (let i = 0; i < count; ++i) {
      const answer = await fetch(url + '/v1/chat/completions', {method: 'POST',
        headers: {'content-type': 'application/json'},
        body: JSON.stringify({model: 'gpt-4o', messages: []})});
      assert.equal(answer.status, 200);
      await answer.text();
    }
  };
  const status = async () => (await fetch(url + '/status')).json();
  const wanted = async () => (await status()).providers.flatMap((provider) => provider.keys).map(
    ({name, state, in_flight, successes, rate_limits, failures}) =>
      ({name, state, in_flight, successes, rate_limits, failures}));

  const browser = new Browser(t, folder);
  await browser.send('Target.setDiscoverTargets', {discover: false});
  await browser.open(url + '/');

  await t.test('shows what /status says, as it changes', async () => {
    await browser.until(`document.querySelectorAll('tr[data-key]').length === 4`);
    assert.deepEqual(await browser.evaluate(SHOWN), await wanted());
    await ask(12);
    const now = await wanted();
    assert.equal(now.reduce((sum, key) => sum + key.successes, 0), 12);
    await browser.until(`JSON.stringify(${SHOWN}) === ${JSON.stringify(JSON.stringify(now))}`);
    await browser.until(`document.querySelector('h2').textContent.includes('served 12, refused 0')`);
    const meters = await browser.evaluate(
      `[...document.querySelectorAll('meter')].map((meter) => [meter.max, Math.floor(meter.value)])`);
    assert.deepEqual(meters.map(([max]) => max), [5, 10000]);
    assert.equal(await browser.evaluate(
      `document.querySelector('tr[data-key="spent"] td[data-label="state"]').textContent`).then(
      (text) => /^cooling in (60|59) min$/.test(text)), true);
  });

  await t.test('plots what was served', async () => {
    await browser.until(`document.querySelector('#served polyline').getAttribute('points').split(' ').length > 1`);
    const label = await browser.evaluate(`document.querySelector('#served svg').getAttribute('aria-label')`);
    assert.match(label, /at most ([2-9]|1\d) in five minutes/);
  });

  await t.test('has buttons for the admin alone, which work', async () => {
    assert.equal(await browser.evaluate(`document.querySelectorAll('main button').length`), 0);
    const login = (token) => browser.evaluate(`document.querySelector('#token').value = '${token}';
      document.querySelector('#login button').click()`);
    await login('wrong-token-of-the-tests');
    await browser.until(`document.querySelector('#said').textContent.includes('kept')`);
    await browser.until(`document.querySelectorAll('tr[data-key]').length === 4`);
    assert.equal(await browser.evaluate(`document.querySelectorAll('main button').length`), 0);
    await login(TOKEN);
    await browser.until(`document.querySelectorAll('main button').length === 8`);
    await browser.evaluate(`document.querySelector('[aria-label="Restore revoked"]').click()`);
    await browser.until(`document.querySelector('tr[data-key="revoked"] .state').textContent === 'available'`);
    await browser.evaluate(`document.querySelector('[aria-label="Rest good"]').focus()`);
    await browser.evaluate(`document.querySelector('[aria-label="Rest good"]').click()`);
    await browser.until(`document.querySelector('tr[data-key="good"] .state').textContent === 'cooling'`);
    // Who works with the keyboard keeps his place, though the rows are new.
    assert.equal(await browser.evaluate(`document.activeElement.getAttribute('aria-label')`), 'Rest good');
    assert.equal((await status()).providers[0].keys[3].state, 'cooling');
    assert.equal(await browser.evaluate(`document.body.textContent.includes('${TOKEN}')`), false);
  });

  await t.test('can be read by a screen reader', async () => {
    const {nodes} = await browser.send('Accessibility.getFullAXTree');
    const roles = (role) => nodes.filter((node) => !node.ignored && node.role?.value === role);
    assert.equal(roles('columnheader').length, 8);
    assert.ok(roles('meter').every((node) => /of \d+ requests/.test(node.name.value)));
    assert.ok(roles('button').every((node) => node.name.value !== ''));
    assert.ok(roles('textbox').every((node) => node.name.value === 'Token'));
    assert.equal(roles('heading').length, 2);
  });

  await t.test('is light, dark, and fits a phone', async () => {
    const size = (width, height, mobile) => browser.send('Emulation.setDeviceMetricsOverride',
      {width, height, mobile, deviceScaleFactor: 1});
    const colours = [];
    for (const value of ['light', 'dark']) {
      await browser.send('Emulation.setEmulatedMedia', {features: [{name: 'prefers-color-scheme', value}]});
      colours.push(await browser.evaluate(`getComputedStyle(document.body).backgroundColor`));
    }
    assert.notEqual(colours[0], colours[1]);
    await size(360, 740, true);
    assert.ok(await browser.evaluate(`document.documentElement.scrollWidth`) <= 360);
    await size(960, 560, false);
    await browser.send('Emulation.setEmulatedMedia', {features: [{name: 'prefers-color-scheme', value: 'light'}]});
    await browser.until(`document.querySelectorAll('tr[data-key]').length === 4`);
    if (process.env.SCREENSHOT) await browser.screenshot(process.env.SCREENSHOT);
  });

  await t.test('says nothing on the console', () => {
    assert.deepEqual(browser.messages, []);
  });
});
