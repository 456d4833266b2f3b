// Before the first client comes: lines to try, and where to go from here.
import {html, useState} from '../lib.js';
import {bytes} from '../format.js';
import {go, to} from '../router.js';
import {toast} from '../parts.js';
import {newQueue} from './deeds.js';

const samples = (url) => ({
  Python: `# python3 -m pip install pika
import pika

connection = pika.BlockingConnection(pika.URLParameters("${url}"))
channel = connection.channel()
channel.queue_declare("tasks", durable=True)
channel.confirm_delivery()    # publishing returns when it is on disk

channel.basic_publish("", "tasks", b"write a letter",
                      pika.BasicProperties(delivery_mode=2))

method, properties, body = channel.basic_get("tasks")
print("to do:", body.decode())
channel.basic_ack(method.delivery_tag)
connection.close()`,
  'Node.js': `// npm install amqplib
const amqp = require('amqplib');

(async () => {
  const connection = await amqp.connect('${url}');
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue('tasks', {durable: true});
  channel.sendToQueue('tasks', Buffer.from('write a letter'), {persistent: true});
  await channel.waitForConfirms();    // it is on disk

  const message = await channel.get('tasks');
  console.log('to do:', message.content.toString());
  channel.ack(message);
  await channel.close();
  await connection.close();
})();`,
  Java: `// com.rabbitmq:amqp-client
var factory = new ConnectionFactory();
factory.setUri("${url}");
try (var connection = factory.newConnection(); var channel = connection.createChannel()) {
    channel.queueDeclare("tasks", true, false, false, null);
    channel.confirmSelect();
    channel.basicPublish("", "tasks", MessageProperties.PERSISTENT_BASIC,
            "write a letter".getBytes());
    channel.waitForConfirmsOrDie();    // it is on disk

    var message = channel.basicGet("tasks", false);
    System.out.println("to do: " + new String(message.getBody()));
    channel.basicAck(message.getEnvelope().getDeliveryTag(), false);
}`,
  Go: `// go get github.com/rabbitmq/amqp091-go
connection, _ := amqp.Dial("${url}")
defer connection.Close()
channel, _ := connection.Channel()
channel.QueueDeclare("tasks", true, false, false, false, nil)
channel.Confirm(false)
confirm, _ := channel.PublishWithDeferredConfirm("", "tasks", false, false,
    amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte("write a letter")})
confirm.Wait()    // it is on disk

message, _, _ := channel.Get("tasks", false)
fmt.Println("to do:", string(message.Body))
message.Ack(false)`,
  '.NET': `// dotnet add package RabbitMQ.Client
var factory = new ConnectionFactory { Uri = new Uri("${url}") };
await using var connection = await factory.CreateConnectionAsync();
await using var channel = await connection.CreateChannelAsync(
    new CreateChannelOptions(true, true));
await channel.QueueDeclareAsync("tasks", true, false, false);
await channel.BasicPublishAsync("", "tasks", true,
    new BasicProperties { Persistent = true }, "write a letter"u8.ToArray());

var message = await channel.BasicGetAsync("tasks", false);
Console.WriteLine($"to do: {Encoding.UTF8.GetString(message!.Body.Span)}");
await channel.BasicAckAsync(message.DeliveryTag, false);`,
  'Command line': `# Debian: apt install amqp-tools
amqp-declare-queue -u ${url} -d -q tasks
amqp-publish -u ${url} -r tasks -p -b "write a letter"
amqp-get -u ${url} -q tasks`,
});

export function FirstStart({body}) {
  const [shown, setShown] = useState('Python');
  const amqp = body.listeners?.find((it) => it.protocol === 'amqp');
  const port = amqp ? amqp.address.split(':').at(-1) : '5672';
  const host = location.hostname;
  const all = samples(`amqp://guest:guest@${host}:${port}/`);
  const names = Object.keys(all);
  const text = all[shown];
  const copy = () => navigator.clipboard?.writeText(text).then(() => toast('Copied'));
  const turn = (event) => {
    const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!by) return;
    const next = names[(names.indexOf(shown) + by + names.length) % names.length];
    setShown(next);
    event.currentTarget.querySelectorAll('button')[names.indexOf(next)].focus();
  };
  return html`<div class="hero"><h2>Leveret is up. Nothing has connected yet.</h2><p class="dim">It takes AMQP 0-9-1 at <b class="mono">amqp://${host}:${port}</b>. Point your program at it as you would at RabbitMQ, or try these lines.</p></div>
<div class="start"><section class="panel"><div class="tabs" role="tablist" aria-label="Language" onKeyDown=${turn}>${names.map((name) => html`<button type="button" role="tab" id=${`tab-${name}`} aria-controls="sample" tabindex=${name === shown ? 0 : -1} aria-selected=${String(name === shown)} onClick=${() => setShown(name)}>${name}</button>`)}</div>
<div class="code" id="sample" role="tabpanel" aria-label=${shown}><pre tabindex="0">${text}</pre></div><div class="wait"><i></i><span>Waiting for the first connection. This page changes by itself.</span><span class="grow"></span><button type="button" class="btn" onClick=${copy}>Copy</button></div></section>
<aside class="panel" aria-label="Where to go from here"><div class="next"><h2>Come from RabbitMQ</h2><p>Bring users, queues, bindings and policies over with a definitions file. You see what would change first.</p><button type="button" class="btn" onClick=${() => go(to('definitions'))}>Choose a file</button></div><div class="next"><h2>Let other machines in</h2><p><b>guest</b> works from this machine only. Make a user for your program.</p><button type="button" class="btn" onClick=${() => go(`${to('users')}?do=new`)}>New user</button></div><div class="next"><h2>No program at hand</h2><p>Make a queue and publish to it from this page.</p><button type="button" class="btn" onClick=${() => newQueue('/')}>New queue</button></div></aside></div>
<section class="card"><dl class="kv three"><div><dt>Node</dt><dd class="mono">${body.node}</dd></div><div><dt>Disk free</dt><dd>${body.disk_free == null ? 'nothing durable is kept' : `${bytes(body.disk_free)}, publishers stop at ${bytes(body.disk_limit)}`}</dd></div><div><dt>Listens at</dt><dd class="mono">${(body.listeners || []).map((it) => `${it.protocol} ${it.address}`).join(', ')}</dd></div></dl></section>`;
}
