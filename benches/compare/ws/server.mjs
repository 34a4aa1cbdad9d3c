// The server that people write first: Node.js, the package `ws`, a set of sockets for each
// topic. It speaks what `pushmux bench generic` speaks: WebSocket subscribers on
// /sub/<topic>, and POST /pub/<topic> with the message as its body.

import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const topics = new Map();

const server = createServer((request, response) => {
    const topic = after('/pub/', request.url);
    if (request.method !== 'POST' || topic === undefined) {
        response.writeHead(404).end();
        return;
    }
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
        const message = Buffer.concat(chunks);
        for (const socket of topics.get(topic) ?? []) {
            socket.send(message, { binary: false });
        }
        response.writeHead(204).end();
    });
});

// Compression is off: the others have none.
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });

server.on('upgrade', (request, stream, head) => {
    const topic = after('/sub/', request.url);
    if (topic === undefined) {
        stream.destroy();
        return;
    }
    sockets.handleUpgrade(request, stream, head, (socket) => {
        const members = topics.get(topic) ?? new Set();
        topics.set(topic, members.add(socket));
        socket.on('error', () => socket.terminate());
        socket.on('close', () => {
            members.delete(socket);
            if (members.size === 0) topics.delete(topic);
        });
    });
});

function after(prefix, path) {
    return path.startsWith(prefix) ? path.slice(prefix.length) : undefined;
}

// Publishers stay connected for as long as they like.
server.keepAliveTimeout = 0;
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
    const { address, port } = server.address();
    console.error(`Listening address=${address}:${port}`);
});
