// What openITCOCKPIT's web interface does with its notifications, and with the same
// library: register on every connection, and come back after a loss. Prints what happens
// as lines on stdout; the test reads them.
//
// node client.mjs URL KEY

import { retry } from 'rxjs';
import { webSocket } from 'rxjs/webSocket';
import WebSocket from 'ws';

const [url, key] = process.argv.slice(2);
const say = (...words) => process.stdout.write(`${words.join(' ')}\n`);

const subject = webSocket({
    url,
    protocol: ['access_token', key],
    WebSocketCtor: WebSocket,
    openObserver: { next: () => say('open') },
    closeObserver: { next: (event) => say('closed', event.code, event.wasClean) },
});

// The web interface waits 3000 ms; nothing but the time differs.
subject.pipe(retry({ delay: 300 })).subscribe({
    next: (message) => {
        say('message', JSON.stringify(message));
        if (message.type === 'ConnectionEstablished') {
            const payload = { clientUuid: message.payload.clientUuid, browserUuid: 'rxjs' };
            subject.next({ type: 'RegisterBrowserPushNotification', message: '', payload });
            // Registering has no answer, but the server answers in order.
            subject.next({ type: 'KeepAlive', message: 'KeepAlive' });
        }
    },
    error: (error) => say('failed', error.message),
    complete: () => say('completed'),
});
