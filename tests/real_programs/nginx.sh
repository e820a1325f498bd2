# nginx with two workers, and clients that keep their connections.
cd /state
mkdir -p logs html
head -c 300000 /dev/urandom >html/page
cat >nginx.conf <<'CONF'
worker_processes 2;
daemon off;
pid /state/nginx.pid;
error_log /state/logs/error.log;
events { worker_connections 64; }
http {
  access_log off;
  keepalive_requests 1000000;
  keepalive_timeout 600s;
  client_body_temp_path /state/logs; proxy_temp_path /state/logs; fastcgi_temp_path /state/logs;
  uwsgi_temp_path /state/logs; scgi_temp_path /state/logs;
  server { listen 127.0.0.1:8080; root /state/html; add_header X-Connection $connection; }
}
CONF
nginx -c /state/nginx.conf &
python3 /state/nginx.py
wait
