// 200 requests, eight at a time, and 200 streams at once: how many are served.
//   node ask.mjs <name> <url> [portkey's config]
const [name, url, config] = process.argv.slice(2);
const headers = {'content-type': 'application/json', authorization: 'Bearer any'};
if (config) headers['x-portkey-config'] = config;

async function ask(stream) {
  try {
    const answer = await fetch(url, {method: 'POST', headers,
      body: JSON.stringify({model: 'gpt-4o', stream, messages: [{role: 'user', content: 'hi'}]})});
    const text = await answer.text();
    return answer.status === 200 && text.includes(stream ? '[DONE]' : 'hello');
  } catch {
    return false;
  }
}

let served = 0;
for (let i = 0; i < 25; ++i)
  served += (await Promise.all(Array.from({length: 8}, () => ask(false)))).filter(Boolean).length;
const streams = (await Promise.all(Array.from({length: 200}, () => ask(true)))).filter(Boolean).length;
console.log(`| ${name} | ${served} | ${streams} |`);
