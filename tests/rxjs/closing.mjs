// A server that ends each connection once its client has registered: with a Close frame
// of the given code, or with `cut` by ending TCP and no more. Prints its port.
//
// node closing.mjs CODE|cut

import { WebSocketServer } from 'ws';

const how = process.argv[2];
const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
server.on('listening', () => process.stdout.write(`port ${server.address().port}\n`));
server.on('connection', (socket) => {
    socket.send('{"type":"ConnectionEstablished","message":"","payload":{"clientUuid":"1"}}');
    socket.once('message', () => (how === 'cut' ? socket.terminate() : socket.close(Number(how))));
});
