#!/bin/sh
# Two Tang servers with keys of their own, and the certificate and unit of the stand-in for Vault. Prints what administrators would hand over.
set -e
if ! [ -e /root/standin.crt ]; then
  cd /lib/systemd/system
  mkdir -p /etc/systemd/system/tangd.socket.d
  printf '[Socket]\nListenStream=\nListenStream=7500\n' >/etc/systemd/system/tangd.socket.d/lab.conf
  sed 's/^ListenStream=.*/ListenStream=7501/' tangd.socket >/etc/systemd/system/tangb.socket
  sed -E 's#^(ExecStart=\S+).*#\1 /var/lib/tangb#; s/^User=.*/User=_tang/' tangd@.service >/etc/systemd/system/tangb@.service
  install -d -o _tang -g _tang -m 0700 /var/lib/tangb
  printf '[Service]\nExecStart=/usr/bin/python3 /usr/local/lib/standin_vault.py /root/standin.crt /root/standin.key\n' \
    >/etc/systemd/system/standin-vault.service
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=standin-vault \
    -addext subjectAltName=IP:10.77.3.12 -keyout /root/standin.key -out /root/standin.crt 2>/dev/null
  systemctl daemon-reload
fi
systemctl start tangd.socket tangb.socket standin-vault.service
for port in 7500 7501; do
  curl -fsS -o /dev/null "http://127.0.0.1:$port/adv" # Tang makes its keys now
  tang-show-keys "$port"
done
cat /root/standin.crt
